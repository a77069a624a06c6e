"""Seconds of competing calls: shuffled rounds beside a reference workload, raw samples kept."""

import ctypes
import gc
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import nn

from benchmarks.core.frame import spread
from benchmarks.measure.process import uncollected

Heap = Literal["steady", "default"]
REFERENCE = "reference"
SPIN = (  # until its input is closed, as it is with the parent
    "import os, sys, threading\n"
    "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()\n"
    "while True: pass"
)
STEADY = 0.05  # interquartile range over median below which more rounds add nothing


@runtime_checkable
class Clocked(Protocol):
    """A work with a clock of its own, such as a call in another process."""

    def seconds(self, calls: int) -> list[float]:
        """Return the seconds of consecutive calls."""


Work = Callable[[], object] | Clocked


def reference_workload(device: str = "cpu") -> Callable[[], None]:
    """Build the fixed workload that times are divided by to be compared between machines.

    It is the forward and backward pass of an MLP 64-256-256-64 over 256 rows in float32, on one
    thread of the CPU: two would be as steady as the threads of what ran before let them be.
    """
    layers = [nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 64)]
    net = nn.Sequential(*layers).to(device)
    x = torch.ones(256, 64, device=device)

    def work() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        net(x).square().mean().backward()
        torch.set_num_threads(threads)

    return work


def seconds_of(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call, with the device synchronised on both sides."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def turn(work: Work, calls: int, device: str = "cpu") -> list[float]:
    """Return the seconds of consecutive calls, by the work's own clock if it has one."""
    if isinstance(work, Clocked):
        return work.seconds(calls)
    return [seconds_of(work, device) for _ in range(calls)]


def compiling(work: Work, device: str = "cpu") -> float:
    """Return the seconds by which the first run of a work exceeds its second."""
    (first,), (second,) = turn(work, 1, device), turn(work, 1, device)
    return max(0.0, first - second)


class Spent:
    """What was spent since: CPU seconds of this process and its children, busy seconds of a GPU.

    Read it after `synchronise`; without a GPU ``busy_seconds`` are zero.
    """

    def __init__(self, device: str = "cpu") -> None:
        number = 2 if device.startswith("cuda") else 0
        self.events = [torch.cuda.Event(enable_timing=True) for _ in range(number)]
        for event in self.events[:1]:
            event.record()
        self.start = self._now()

    @staticmethod
    def _now() -> float:
        times = os.times()
        return time.process_time() + times.children_user + times.children_system

    @property
    def cpu_seconds(self) -> float:
        return self._now() - self.start

    @property
    def busy_seconds(self) -> float:
        """Seconds between two events on the GPU."""
        if not self.events:
            return 0.0
        first, last = self.events
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000

    @property
    def seconds(self) -> float:
        """Those of the GPU, or of the CPU without one."""
        return self.busy_seconds or self.cpu_seconds


def reference_seconds(calls: int = 5) -> float:
    """CPU seconds of the `reference_workload`, the least of some calls."""
    work, seconds = reference_workload(), []
    for _ in range(calls + 1):
        spent = Spent()
        work()
        seconds.append(spent.cpu_seconds)
    return min(seconds[1:])


def synchronise(device: str) -> None:
    """Wait until the device has finished all queued work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def steady_heap() -> bool:
    """Make glibc's allocator keep freed blocks for the rest of the process; True on success.

    By default glibc returns large blocks to the system and requests them anew, at one page fault
    per 4 KiB. How often depends on everything that the process freed before, so the same call may
    take up to twice as long. Sets M_MMAP_THRESHOLD (32 MiB, its maximum) and M_TRIM_THRESHOLD of
    mallopt(3). Does nothing on other systems and C libraries.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    mallopt = getattr(libc, "mallopt", None)
    return mallopt is not None and all([mallopt(-3, 2**25), mallopt(-1, 2**31 - 1)])


class WorkError(RuntimeError):
    """A work that raised an error while it was timed."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(f"{name}: {error}")
        self.name, self.error = name, error


def interleave(
    works: Mapping[str, Work],
    *,
    seconds: float,
    device: str = "cpu",
    rounds: tuple[int, int] = (3, 40),
    steady: int = 10,
    heap: Heap = "steady",
    warm: int = 0,
) -> dict[str, list[float]]:
    """Time each work, and the reference workload under `REFERENCE`, in shuffled rounds.

    Returns raw seconds by name; empty, with nothing run, if ``seconds`` is 0. Each work first runs
    unrecorded. Then every round runs all works in a new order, short ones several times, until
    ``seconds`` are spent, or ``rounds[1]`` is reached, or, from round ``steady`` on, the
    interquartile range of every work is within `STEADY` of its median; but at least ``rounds[0]``.
    ``heap="steady"`` calls `steady_heap` first; "default" leaves the allocator as it is. Each turn
    of a work begins with ``warm`` unrecorded calls: where works run in several processes, threads
    of the one before still wait for more. Raises WorkError for a work that fails.
    """
    if not seconds:
        return {}
    if heap == "steady":
        steady_heap()
    works = {**works, REFERENCE: reference_workload(device)}
    order = random.Random(0)
    first, name = dict[str, float](), REFERENCE
    samples: dict[str, list[float]] = {name: [] for name in works}
    try:
        for name in works:
            (first[name],) = turn(works[name], 1, device)
            if first[name] < 0.05:  # the least of three, undisturbed
                first[name] = min([first[name], *turn(works[name], 2, device)])
        slowest = max(first.values())
        times = {n: max(1, min(8, int(slowest / 4 / max(t, 1e-9)))) for n, t in first.items()}
        started, done = time.perf_counter(), 0
        with uncollected():
            while done < rounds[0] or (
                done < rounds[1] and time.perf_counter() - started < seconds
            ):
                for name in order.sample(list(works), len(works)):
                    samples[name] += turn(works[name], warm + times[name], device)[warm:]
                gc.collect(0)  # reference cycles of the calls would fill the memory
                done += 1
                if done >= steady and all(spread(times) <= STEADY for times in samples.values()):
                    break
    except Exception as error:
        raise WorkError(name, error) from error
    return samples


@contextmanager
def spinning(processes: int) -> Iterator[None]:
    """Keep cores busy by processes of one thread, which end with this one."""
    command = [sys.executable, "-P", "-c", SPIN]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()
