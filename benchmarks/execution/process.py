"""The process that measures: it holds torch, measures blocks of cases, and may die."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks import datasets
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.study import Result, registry
from benchmarks.datasets import own
from benchmarks.measure.machine import Beside, memory_bytes
from benchmarks.measure.operations import dispatched, forget
from benchmarks.measure.process import bound_forks, end_with_parent
from flows import members
from flows.isolation import Process
from flows.plugins import load_only

STOP = signal.SIGUSR1  # asks to stop at the next update of a training
SWARM = signal.SIGUSR2  # ends a worker whose copies go on forking
PROCESSES = max(100, 2 * (os.cpu_count() or 1))  # that a worker may have at once
STOPPED = "stopped"  # the answer
SPENT = "spent"  # what the last block left behind cannot be undone: another process has to go on


@dataclass(frozen=True)
class Setup:
    """What a worker may use: threads, a device, a share of the memory; cores and GPU of its own.

    Without ``cores`` it runs on those that this process may use. With ``operators`` it counts those
    that torch dispatches and times nothing.
    """

    threads: int
    device: str
    memory_share: float
    operators: bool = False
    cores: frozenset[int] | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class Files:
    """Files of a case: its checkpoint, the tensors that its times need afterwards, its flow.

    ``weights`` is the folder of the flow, None where that is not to be kept.
    """

    checkpoint: Path
    kept: Path
    weights: Path | None = None

    @classmethod
    def of(cls, stem: Path, weights: Path | None) -> Self:
        """Those whose names begin alike."""
        return cls(stem.with_suffix(".safetensors"), stem.with_suffix(".kept"), weights)


@dataclass(frozen=True)
class Measured:
    """A case's result, the seconds that it took, and what ran beside its block where known.

    Times are ``pending`` where what they need was kept in a file.
    """

    result: Result
    seconds: float
    shared: dict[str, float] | None = None
    pending: bool = False


class _Pipe(Connection):
    """The pipe of one process: a copy that a flow has forked ends where it has something to say."""

    owner = os.getpid()

    def send(self, message: object) -> None:
        if os.getpid() != self.owner:
            os._exit(1)
        super().send(message)


def main(descriptor: str, lifeline: str) -> None:
    """Say what machine this is, then measure what comes by a pipe until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(int(lifeline))
    pipe = _Pipe(int(descriptor))
    os.register_at_fork(after_in_child=pipe.close)  # a flow may fork, and end before its child
    bound_forks(PROCESSES, SWARM)
    setup, plugins = pipe.recv()
    if setup.cores is not None:
        os.sched_setaffinity(0, setup.cores)
    if setup.gpu is not None:  # read when CUDA is first used
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.gpu
    if not setup.device.startswith("cuda"):
        limit = int(setup.memory_share * memory_bytes())
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    import torch
    import torch._dynamo  # as the first optimiser would, within the time limit of its case
    from threadpoolctl import threadpool_limits

    from benchmarks.measure.machine import machine
    from benchmarks.training import checkpoint, weights
    from flows.threads import keep_threads

    def stop(*_: object) -> None:
        checkpoint.stopping = True

    signal.signal(STOP, stop)
    threadpool_limits(setup.threads)
    torch.set_num_threads(setup.threads)
    keep_threads()
    load_only(plugins)
    for kind in (datasets.registry, registry, members):  # imported before any case is measured
        list(kind)
    random.seed(0)
    np.random.seed(0)
    pipe.send(machine(setup.device))
    before = Process()
    while True:
        try:
            texts, files, times = pipe.recv()
        except EOFError:
            return
        cases = [Case.model_validate_json(text) for text in texts]
        checkpoint.slots = {key: paths.checkpoint for key, paths in files.items()}
        weights.folders = {key: own.weights for key, own in files.items() if own.weights}
        results = _times(cases, files) if times else _results(cases, setup.operators)
        _measure(pipe, cases, results, files)
        pipe.send(_restored(before, cases))


def _results(cases: Sequence[Case], operators: bool) -> Iterator[tuple[str, Result]]:
    """Each case's key and result."""
    for case in cases:
        own.admit(case.dataset or "")
    study = registry[cases[0].study]
    yield from dispatched(study, cases) if operators else study.measure(cases)


def _times(cases: Sequence[Case], files: Mapping[str, Files]) -> Iterator[tuple[str, Result]]:
    """Each case's key and times, from what was kept."""
    from benchmarks.training import checkpoint

    for case in cases:
        own.admit(case.dataset or "")
        _, tensors = checkpoint.unpacked(files[case.key].kept)
        yield case.key, registry[case.study].times(case, tensors)


def _measure(
    pipe: Connection,
    cases: Sequence[Case],
    results: Iterator[tuple[str, Result]],
    files: Mapping[str, Files],
) -> None:
    """Send the results of one block; an exception becomes the failure of the cases left behind."""
    from benchmarks.training import checkpoint

    left = {case.key for case in cases}
    lost = Result(failure="the study gave no result")
    beside, start = Beside(), time.perf_counter()
    try:
        for key, result in results:
            elapsed = time.perf_counter() - start
            seconds = elapsed if result.seconds is None else result.seconds
            kept = _kept(result, files[key].kept)
            pending = kept.kept is not None
            plain = replace(kept, kept=None)
            pipe.send((key, Measured(plain, seconds, beside.shared(), pending)))
            left.discard(key)
            start = time.perf_counter()
    except Exception as error:
        lost = Result.of(error)
    except checkpoint.Stopped:
        left.clear()
        pipe.send(STOPPED)
    for key in left:
        pipe.send((key, Measured(lost, time.perf_counter() - start, beside.shared())))


def _restored(before: Process, cases: Sequence[Case]) -> str | None:
    """Undo what a block has changed in this process, and warn of it; SPENT where that fails."""
    moved = before.restore()
    if moved.undone or moved.lost:
        forget()  # what may have been computed meanwhile
        names = ", ".join(dict.fromkeys([*moved.undone, *moved.lost]))
        flows = ", ".join(sorted({case.flow for case in cases}))
        warnings.warn(f"{cases[0].study} of {flows} changes for other cases: {names}", stacklevel=1)
    return SPENT if moved.lost else None


def _kept(result: Result, path: Path) -> Result:
    """Write what the times of a result need; the result, which is without times if that fails."""
    if result.kept is None:
        return result
    from benchmarks.training import checkpoint

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store.replace(path, checkpoint.packed({}, result.kept))
    except OSError as error:
        notes = {**result.notes, "no_times": f"{str(path)!r}: {error.strerror}"}
        return replace(result, kept=None, notes=notes)
    return result
