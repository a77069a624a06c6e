"""A plug-in of flows that fail, each in its own way."""

import os
import signal
import threading

import torch
from nflows.transforms import IdentityTransform

import flows


class Misbehaving(IdentityTransform):
    """The identity, except that ``act`` comes first."""

    def __init__(self, act):
        super().__init__()
        self.act = act
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, context=None):
        self.act()
        z, ladj = super().forward(inputs, context)
        return z + 0 * self.unused, ladj


def _raise():
    raise RuntimeError("the flow diverged on purpose")


def _gluttony():
    return torch.empty(2**40)


ACTS = {
    "faulty_raises": _raise,
    "faulty_dies": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "faulty_hangs": threading.Event().wait,
    "faulty_eats": _gluttony,
}


def _factory(act):
    def factory(dim):
        return Misbehaving(act)

    factory.__module__ = __name__
    return factory


for name, act in ACTS.items():
    flows.register(name, uses=())(_factory(act))
