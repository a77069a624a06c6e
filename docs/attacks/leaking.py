"""A plug-in of flows that leave something behind; `plugins.py` measures what comes after them."""

import atexit
import builtins
import codecs
import copyreg
import decimal
import functools
import importlib
import json
import multiprocessing
import operator
import os
import random
import socket
import statistics
import sys
import threading
import tracemalloc
import types

import numpy as np
import scipy.stats
import torch
from nflows.transforms import IdentityTransform
from torch import nn

import flows
from benchmarks import datasets
from benchmarks.core import metrics
from benchmarks.evaluation import likelihood
from benchmarks.training import settings


def scaled(function):
    """A function whose result is 1 % larger."""
    return lambda *args, **kwargs: 1.01 * function(*args, **kwargs)


def patched(owner, name):
    """Replace a function by one whose result is 1 % larger."""
    return lambda: setattr(owner, name, scaled(getattr(owner, name)))


def register_again():
    """Register another flow and another data set under names that are taken."""
    flows.register("realnvp", uses=())(lambda dim: flows.build("nice", dim))
    datasets.registry["8gaussians"] = datasets.registry["moons"]


def shadow():
    """Put another module in the place of one."""
    module = types.ModuleType("math")
    module.__dict__.update(vars(importlib.import_module("math")), exp=lambda x: 1.0)
    sys.modules["math"] = module


LEAKS = {
    "torch.randn": patched(torch, "randn"),
    "torch.Tensor.mul": patched(torch.Tensor, "mul"),
    "torch.Tensor.__add__": patched(torch.Tensor, "__add__"),
    "F.linear": patched(nn.functional, "linear"),
    "F.softplus": patched(nn.functional, "softplus"),
    "nn.init.uniform_": lambda: setattr(nn.init, "uniform_", lambda tensor, *args, **k: tensor),
    "Adam.step": lambda: setattr(torch.optim.Adam, "step", lambda self, closure=None: None),
    "Normal.log_prob": patched(torch.distributions.Normal, "log_prob"),
    "np.mean": patched(np, "mean"),
    "np.sqrt": patched(np, "sqrt"),
    "scipy.stats.sem": patched(scipy.stats, "sem"),
    "statistics.median": patched(statistics, "median"),
    "operator.mul": patched(operator, "mul"),
    "builtins.sum": patched(builtins, "sum"),
    "builtins.open": lambda: setattr(builtins, "open", lambda *args, **kwargs: None),
    "json.dumps": lambda: setattr(json, "dumps", lambda *args, **kwargs: "{}"),
    "random.Random.random": lambda: setattr(random, "random", lambda: 0.5),
    "functools.reduce": lambda: setattr(functools, "reduce", lambda *args: 0),
    "METRICS": lambda: metrics.METRICS.clear(),
    "a default": lambda: setattr(settings.Training, "learning_rate", 1.0),
    "a constant": lambda: [setattr(likelihood, n, 1) for n in dir(likelihood) if n.isupper()],
    "a registry": register_again,
    "a module": shadow,
    "a context of decimals": lambda: setattr(decimal.getcontext(), "prec", 2),
    "print options": lambda: torch.set_printoptions(precision=1),
    "threads of autograd": lambda: torch.autograd.set_multithreading_enabled(False).__enter__(),
    "tracemalloc": tracemalloc.start,
    "start method": lambda: multiprocessing.set_start_method("fork", force=True),
    "time-out of sockets": lambda: socket.setdefaulttimeout(0.001),
    "at the exit": lambda: atexit.register(os._exit, 3),
    "pickling": lambda: copyreg.pickle(float, lambda x: (float, (2 * x,))),
    "codecs": lambda: codecs.register(lambda name: None),
    "exceptions of threads": lambda: setattr(threading, "excepthook", lambda *args: None),
    "priority": lambda: os.nice(1),
    "standard error": lambda: os.close(2),
    "descriptors": lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(50)],
}


class Leaking(IdentityTransform):
    """The identity, with a parameter that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, inputs, context=None):
        z, ladj = super().forward(inputs, context)
        return z + 0 * self.unused, ladj


def _factory(leak):
    def factory(dim):
        leak()
        return Leaking()

    factory.__module__ = __name__
    return factory


for number, leak in enumerate(LEAKS.values()):
    flows.register(f"leaks_{number}", uses=())(_factory(leak))


@flows.register("sound", uses=("hidden", "layers"))
def sound(dim, *, hidden=8, layers=1):
    """A flow of this file that is measured after each of the others."""
    return flows.build("realnvp", dim, hidden=hidden, layers=layers)
