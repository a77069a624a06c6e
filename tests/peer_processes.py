"""A peer for tests, in a process of its own: a Gaussian, and every way to fail."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.measure.foreign import Built, Call
from benchmarks.measure.process import growth

PACKAGES: tuple[str, ...] = ("numpy",)
EXTRA = "peers"
FAMILIES = ("realnvp",)
VARIABLES = ("OMP_NUM_THREADS", "XLA_FLAGS", "JAX_ENABLE_X64", "JAX_PLATFORMS")


def build(request: Mapping[str, Any]) -> Built:
    """N(0, s² I) in the precision of the request, whose only parameter is ln s."""
    if request.get("refuse"):
        raise ValueError("this is refused\nand this is a second line")
    x = np.asarray(request.get("x", np.ones((2, 3))), request.get("dtype", "float32"))
    ln_s = np.array(request.get("theirs", {}).get("ln_s", np.float32(0.3)), x.dtype)

    def log_prob(x: np.ndarray = x) -> np.ndarray:
        squares = (x * np.exp(-ln_s)) ** 2
        normal = -0.5 * squares.sum(1) - x.shape[1] * (ln_s + np.log(2 * np.pi) / 2)
        return normal.astype(x.dtype)

    def gradient() -> np.ndarray:
        return np.asarray([x.shape[1] - ((x * np.exp(-ln_s)) ** 2).sum(1).mean()], x.dtype)

    def fit(x: np.ndarray, picks: np.ndarray, rates: np.ndarray, clip: float) -> dict[str, Any]:
        """Steps towards the scale of most likelihood, each a fraction of what is left."""
        losses = []
        for rows, rate in zip(picks, rates, strict=True):
            losses.append(-log_prob(x[rows]).mean())
            ln_s[...] += rate * (np.log((x[rows] ** 2).mean()) / 2 - ln_s)
        return {"seconds": np.array([3.0, *[1.0] * (len(picks) - 1)]), "loss": np.array(losses)}

    def samples(n: int) -> np.ndarray:
        draws = np.random.default_rng(0).standard_normal((n, x.shape[1]))
        return (np.exp(ln_s) * draws).astype(x.dtype)

    def given_back(name: str) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        return lambda result: {name: result}

    calls = {
        "log_prob": Call(log_prob, given_back("log_prob")),
        "gradient": Call(gradient, given_back("gradient")),
        "step": Call(gradient),
        "construct": Call(lambda: None),
        "fit": Call(fit, lambda result: result),
        "sample": Call(_die_when(request.get("seed"), 13, samples), given_back("sample")),
        "weights": Call(lambda: ln_s, given_back("ln_s")),
        "echo": Call(lambda **arrays: arrays, lambda arrays: arrays),
        "facts": Call(_facts, lambda facts: facts),
        "fail": Call(lambda: 1 / 0),
        "exit": Call(_exit),
        "kill": Call(lambda: os.kill(os.getpid(), signal.SIGKILL)),
        "wait": Call(lambda: threading.Event().wait()),
    }
    return Built(calls, {"parameters": 1, "same_weights": False, "compiles": True})


def grown_once_warm(size: int) -> int:
    """Growth by a work that keeps what its first run makes, and needs as many bytes in each."""
    kept: list[np.ndarray] = []

    def work() -> None:
        kept[:] = kept or [np.ones(size, np.uint8)]
        np.ones(size, np.uint8)

    return growth(work, lambda: None)


def _die_when(seed: object, fatal: int, samples: Callable[[int], Any]) -> Callable[..., Any]:
    """A sampler that ends its process where the seed is the fatal one."""
    return lambda n=2: _exit() if seed == fatal else samples(n)


def _exit() -> None:
    print("the last line", flush=True)
    os._exit(3)


def _facts() -> dict[str, np.ndarray]:
    """What the environment says, whether torch was imported, and who this is."""
    texts = {name: np.array(os.environ.get(name, "")) for name in VARIABLES}
    return {**texts, "torch": np.array("torch" in sys.modules), "pid": np.array(os.getpid())}
