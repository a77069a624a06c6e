"""A plug-in of a flow that holds the interpreter's lock, then tells its environment."""

import ctypes
import os

import torch
from nflows.transforms import IdentityTransform

import flows

SECONDS = 7  # longer than a worker's heartbeat may be late


class Selfish(IdentityTransform):
    """The identity; on data it holds the lock, then fails with what the nanny has exported."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, context=None):
        ctypes.PyDLL(None).sleep(SECONDS)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")
        raise RuntimeError(f"environment: {[os.environ.get(name) for name in names]}")


@flows.register("selfish", uses=())
def selfish(dim):
    return Selfish()
