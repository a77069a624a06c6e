"""A plug-in of flows that leave something behind for what is measured after them."""

import gc
import json
import locale
import math
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import torch
from nflows.transforms import IdentityTransform
from torch import nn
from torch.nn.modules import module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import flows
from benchmarks import datasets
from benchmarks.core import metrics
from benchmarks.measure import clock
from benchmarks.training import schedules

torch.set_default_dtype(torch.float64)  # on import


class Doubling(TorchFunctionMode):
    """Doubles what exp gives."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return 2 * result if func is torch.Tensor.exp else result


class Counting(TorchDispatchMode):
    """Does nothing to operators but slow them down."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def scaled(function):
    """A function whose result is 1 % larger."""
    return lambda *args, **kwargs: 1.01 * function(*args, **kwargs)


def spoil_rows():
    """Halve the rows that every case gets."""
    data = datasets.load("8gaussians")
    for part in (data.train, data.val, data.test):
        part.mul_(0.5)


def recode():
    """Replace the code of a function that others hold."""
    schedules.drops.__code__ = (lambda *args: 3).__code__


def lower():
    """Lower the limit on a process's stack."""
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (2**20, hard))


LEAKS = {  # by what the worker says of them
    "rows": spoil_rows,
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "threads": lambda: torch.set_num_threads(2),
    "grad mode": lambda: torch.set_grad_enabled(False),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
    "determinism": lambda: torch.use_deterministic_algorithms(True),
    "denormals": lambda: torch.set_flush_denormal(True),
    "precision of float32": lambda: torch.set_float32_matmul_precision("medium"),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "backends.mkldnn.enabled": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "_validate_args": lambda: torch.distributions.Distribution.set_default_validate_args(False),
    "seeds": lambda: (torch.manual_seed(7), np.random.seed(7), random.seed(7)),
    "default_generator": lambda: setattr(torch, "default_generator", torch.Generator()),
    "function modes": lambda: Doubling().__enter__(),
    "dispatch modes": lambda: Counting().__enter__(),
    "hooks of saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(
        lambda x: x, lambda x: 2 * x
    ).__enter__(),
    "_global_forward_hooks": lambda: module.register_module_forward_hook(lambda m, args, y: 2 * y),
    "Linear.forward": lambda: setattr(nn.Linear, "forward", scaled(nn.Linear.forward)),
    "Linear.__call__": lambda: setattr(nn.Linear, "__call__", scaled(nn.Module.__call__)),
    "torch.exp": lambda: setattr(torch, "exp", scaled(torch.exp)),
    "schedules.drops": recode,
    "math.log": lambda: setattr(math, "log", scaled(math.log)),
    "json.dumps": lambda: setattr(json, "dumps", lambda *args, **kwargs: "{}"),
    "metrics.METRICS": lambda: metrics.METRICS.popitem(),
    "time.perf_counter": lambda: setattr(time, "perf_counter", lambda: 0.0),
    "schedules.share": lambda: setattr(schedules, "share", lambda *args: 2.0),
    "clock.STEADY": lambda: setattr(clock, "STEADY", 1.0),
    "environment": lambda: os.environ.update(FLOWGAUGE_DATA="/nowhere"),
    "working folder": lambda: os.chdir("/"),
    "path of modules": lambda: sys.path.insert(0, "/nowhere"),
    "umask": lambda: os.umask(0o777),
    "signal handlers": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "timers": lambda: signal.setitimer(signal.ITIMER_REAL, 3600),
    "limits": lower,
    "locale": lambda: locale.setlocale(locale.LC_NUMERIC, "C.UTF-8"),
    "recursion limit": lambda: sys.setrecursionlimit(200),
    "trace function": lambda: sys.settrace(lambda *args: None),
    "garbage collection": gc.disable,
    "NumPy's errors": lambda: np.seterr(all="raise"),
    "filters of warnings": lambda: warnings.simplefilter("error"),
    "sys.stderr": lambda: setattr(sys, "stderr", None),
}
UNNAMED = {
    "rows",
    "seeds",
    "environment",
    "filters of warnings",
}  # harmless, or what libraries do too


def lose():
    """Do what no process can undo."""
    LOST.append(mode := torch.inference_mode())  # which ends where nothing holds it
    mode.__enter__()
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    LOST.append(subprocess.Popen(["sleep", NAP]))


LOST = []
NAP = "36007"  # seconds, which tell the process from others


class Leaky(IdentityTransform):
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
        return Leaky()

    factory.__module__ = __name__
    return factory


for number, leak in enumerate([*LEAKS.values(), lose]):
    flows.register(f"leaky_{number}", uses=())(_factory(leak))


@flows.register("sound", uses=("hidden", "layers"))
def sound(dim, *, hidden=8, layers=1):
    """A flow of this file that is measured after the others."""
    return flows.build("realnvp", dim, hidden=hidden, layers=layers)
