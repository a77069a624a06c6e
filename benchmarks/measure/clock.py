"""Seconds: competitors in shuffled rounds, a reference workload beside them, raw samples kept."""

from __future__ import annotations

import ctypes
import gc
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

REFERENCE = "reference"
STEADY = 0.05  # interquartile range over median at which more rounds tell nothing new


def reference_workload(device: str = "cpu") -> Callable[[], None]:
    """The fixed piece of work that times are divided by to travel between machines.

    Forward and backward pass of an MLP 64-256-256-64 over 256 rows in float32.
    """
    layers = [nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 64)]
    net = nn.Sequential(*layers).to(device)
    x = torch.ones(256, 64, device=device)

    def work() -> None:
        net(x).square().mean().backward()

    return work


def seconds_of(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call, with the device synchronised on both sides."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: str) -> None:
    """Wait until the device has done all it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def steady_heap() -> bool:
    """Let glibc's allocator keep what tensors leave behind; whether it does from now on.

    By itself it returns large blocks to the system and asks for them anew, at a page fault for
    every 4 KiB. How often it does depends on all that the process has freed before, so that one and
    the same call may take up to twice its time. (mallopt(3): M_MMAP_THRESHOLD, whose highest value
    is 32 MiB, and M_TRIM_THRESHOLD.) Other systems and C libraries are left as they are.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    mallopt = getattr(libc, "mallopt", None)
    return mallopt is not None and all([mallopt(-3, 2**25), mallopt(-1, 2**31 - 1)])


def interleave(
    works: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    device: str = "cpu",
    rounds: tuple[int, int] = (3, 40),
    steady: int = 10,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Raw seconds of each work, and of the reference workload, from shuffled rounds.

    Each work runs unrecorded at first. Then every round runs all of them in a new order, quick ones
    several times, until ``seconds`` are spent, or the larger number of rounds is reached, or, from
    round ``steady`` on, the middle half of every work's samples is within `STEADY` of their median;
    but never fewer than the smaller number. The heap is a `steady_heap`, from here on.
    """
    steady_heap()
    works = {**works, REFERENCE: reference_workload(device)}
    order = random.Random(seed)
    first = {name: _shortest(work, device) for name, work in works.items()}
    slowest = max(first.values())
    times = {name: max(1, min(8, int(slowest / 4 / max(t, 1e-9)))) for name, t in first.items()}
    samples: dict[str, list[float]] = {name: [] for name in works}
    started, done = time.perf_counter(), 0
    collecting = gc.isenabled()
    gc.disable()
    try:
        while done < rounds[0] or (done < rounds[1] and time.perf_counter() - started < seconds):
            for name in order.sample(list(works), len(works)):
                for _ in range(times[name]):
                    samples[name].append(seconds_of(works[name], device))
            gc.collect(0)  # cycles that a call leaves behind would fill the memory
            done += 1
            if done >= steady and all(spread(times) <= STEADY for times in samples.values()):
                break
    finally:
        if collecting:
            gc.enable()
    return samples


def spread(samples: Sequence[float]) -> float:
    """The interquartile range of samples over their median."""
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def _shortest(work: Callable[[], object], device: str) -> float:
    """Seconds of a call that nothing held up: of a quick work the least of three."""
    seconds = seconds_of(work, device)
    again = 2 if seconds < 0.05 else 0
    return min([seconds, *(seconds_of(work, device) for _ in range(again))])
