"""A peer for tests, in a process of its own: a Gaussian, and every way to fail."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.measure.foreign.peers import THEIRS, weights
from benchmarks.measure.foreign.server import Built, Call

PACKAGES: tuple[str, ...] = ("numpy",)
EXTRA = "peers"
FAMILIES = ("realnvp",)
VARIABLES = ("OMP_NUM_THREADS", "XLA_FLAGS", "JAX_ENABLE_X64", "JAX_PLATFORMS")


def build(request: Mapping[str, Any]) -> Built:
    """N(0, s² I) in the precision of the request, whose only parameter is ln s."""
    if request.get("refuse"):
        raise ValueError("this is refused\nand this is a second line")
    x = np.asarray(request.get("x", np.ones((2, 3))), request.get("dtype", "float32"))
    given = weights(request, THEIRS).get("ln_s", np.float32(0.3))
    ln_s = np.asarray(given, x.dtype)

    def log_prob() -> np.ndarray:
        squares: np.ndarray = (x * np.exp(-ln_s)) ** 2
        normal = -0.5 * squares.sum(1) - x.shape[1] * (ln_s + np.log(2 * np.pi) / 2)
        return normal.astype(x.dtype)

    def gradient() -> np.ndarray:
        return np.asarray([x.shape[1] - ((x * np.exp(-ln_s)) ** 2).sum(1).mean()], x.dtype)

    def given_back(name: str) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        return lambda result: {name: result}

    calls = {
        "log_prob": Call(log_prob, given_back("log_prob")),
        "gradient": Call(gradient, given_back("gradient")),
        "sample": Call(_die_when(request.get("seed"), 13)),
        "weights": Call(lambda: ln_s, given_back("ln_s")),
        "echo": Call(lambda **arrays: arrays, lambda arrays: arrays),
        "facts": Call(_facts, lambda facts: facts),
        "fail": Call(lambda: 1 / 0),
        "exit": Call(lambda: _exit()),
        "kill": Call(lambda: os.kill(os.getpid(), signal.SIGKILL)),
        "wait": Call(lambda: threading.Event().wait()),
    }
    return Built(calls, {"parameters": 1, "same_weights": False, "compiles": True})


def _die_when(seed: object, fatal: int) -> Callable[[], None]:
    """A sampler that ends its process where the seed is the fatal one."""
    return _exit if seed == fatal else lambda: None


def _exit() -> None:
    print("the last line of all", flush=True)
    os._exit(3)


def _facts() -> dict[str, np.ndarray]:
    """What the environment says, whether torch was imported, and who this is."""
    print("what a library prints is no message")
    texts = {name: np.array(os.environ.get(name, "")) for name in VARIABLES}
    return {**texts, "torch": np.array("torch" in sys.modules), "pid": np.array(os.getpid())}
