"""A plug-in of flows that leave something behind for what is measured after them."""

import gc
import json
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
from torch import nn
from torch.nn.modules import module
from torch.overrides import TorchFunctionMode

import flows
from acting_flows import Acting
from benchmarks import datasets
from benchmarks.core import metrics
from benchmarks.training.settings import Training

torch.set_default_dtype(torch.float64)  # on import


class Doubling(TorchFunctionMode):
    """Doubles what exp gives."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return 2 * result if func is torch.Tensor.exp else result


def scaled(function):
    return lambda *args, **kwargs: 1.01 * function(*args, **kwargs)


def spoil_rows():
    """Halve the rows that every case gets."""
    data = datasets.load("8gaussians")
    for part in (data.train, data.val, data.test):
        part.mul_(0.5)


def recode():
    """Replace the code of a function that others hold."""
    Training.drops.__code__ = (lambda *args: 3).__code__


def lower():
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (2**20, hard))


SETTINGS = {  # by the name that a warning gives them
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "threads": lambda: torch.set_num_threads(2),
    "grad mode": lambda: torch.set_grad_enabled(False),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
    "determinism": lambda: torch.use_deterministic_algorithms(True),
    "denormals": lambda: torch.set_flush_denormal(True),
    "precision of float32": lambda: torch.set_float32_matmul_precision("medium"),
    "enabled": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "validate_args": lambda: torch.distributions.Distribution.set_default_validate_args(False),
    "hooks of modules": lambda: module.register_module_forward_hook(lambda m, args, y: 2 * y),
    "NumPy's errors": lambda: np.seterr(all="raise"),
    "recursion limit": lambda: sys.setrecursionlimit(400),
}
LEAKS = {
    **SETTINGS,
    "rows": spoil_rows,
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "seeds": lambda: (torch.manual_seed(7), np.random.seed(7), random.seed(7)),
    "default_generator": lambda: setattr(torch, "default_generator", torch.Generator()),
    "function modes": lambda: Doubling().__enter__(),
    "Linear.forward": lambda: setattr(nn.Linear, "forward", scaled(nn.Linear.forward)),
    "torch.exp": lambda: setattr(torch, "exp", scaled(torch.exp)),
    "Training.drops": recode,
    "math.log": lambda: setattr(math, "log", scaled(math.log)),
    "json.dumps": lambda: setattr(json, "dumps", lambda *args, **kwargs: "{}"),
    "metrics": lambda: metrics.METRICS.popitem(),
    "time.perf_counter": lambda: setattr(time, "perf_counter", lambda: 0.0),
    "environment": lambda: os.environ.update(FLOWGAUGE_DATA="/nowhere"),
    "working folder": lambda: os.chdir("/"),
    "umask": lambda: os.umask(0o777),
    "signal handlers": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "limits": lower,
    "trace function": lambda: sys.settrace(lambda *args: None),
    "garbage collection": gc.disable,
    "filters of warnings": lambda: warnings.simplefilter("error"),
    "sys.stderr": lambda: setattr(sys, "stderr", None),
    "thread": lambda: threading.Thread(target=threading.Event().wait, daemon=True).start(),
    "process": lambda: HELD.append(subprocess.Popen(["sleep", NAP])),
    "inference mode": lambda: HELD.append(torch.inference_mode()) or HELD[-1].__enter__(),
}
HELD = []
NAP = "36007"  # seconds, which tell the process from others


def _factory(leak):
    def factory(dim):
        leak()
        return Acting()

    return factory


for number, leak in enumerate(LEAKS.values()):
    flows.register(f"leaky_{number}", uses=())(_factory(leak))


@flows.register("sound", uses=("hidden", "layers"))
def sound(dim, *, hidden=8, layers=1):
    """A flow of this file that is measured after the others."""
    return flows.build("realnvp", dim, hidden=hidden, layers=layers)
