"""The worker: one process that holds torch, measures blocks of cases, and may die."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.core.case import studies as registry
from benchmarks.core.study import Result
from benchmarks.datasets import own
from benchmarks.measure.beside import Beside
from benchmarks.measure.dispatched import dispatched
from flows.registry import load_plugin, loaded_plugins


class WorkerLost(RuntimeError):
    """The worker died or was stopped; the message says how, ``timed_out`` whether by the clock."""

    def __init__(self, message: str, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


@dataclass(frozen=True)
class Measured:
    """A case's result, the seconds that it took, and what ran beside its block where known."""

    result: Result
    seconds: float
    shared: dict[str, float] | None = None


class Worker:
    """A handle on the worker process, started on first use and again after every loss.

    The process loads the plug-ins that this one has loaded.
    """

    def __init__(
        self,
        *,
        threads: int,
        device: str,
        memory_share: float,
        operators: bool = False,
    ) -> None:
        self.settings = (threads, device, memory_share, operators)
        self.machine: dict[str, Any] = {}
        self._process: Any = None
        self._pipe: Connection | None = None

    def measure(
        self, cases: Sequence[Case], time_limit: float, checkpoints: Mapping[str, Path]
    ) -> Iterator[tuple[str, Measured]]:
        """Each case's key and result as it comes; WorkerLost where the worker cannot go on.

        ``checkpoints`` are the files, by key, from which a case that was cut off goes on.
        """
        pipe = self._started()
        pipe.send(([case.model_dump_json() for case in cases], dict(checkpoints)))
        deadline = time.monotonic() + time_limit
        while True:
            message = self._receive(deadline, time_limit)
            if message is None:
                return
            yield message

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _started(self) -> Connection:
        if self._process is None or not self._process.is_alive() or self._pipe is None:
            self.stop()
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=_main, args=(theirs, *self.settings, loaded_plugins()), daemon=True
            )
            self._process.start()
            theirs.close()
            self.machine = self._receive(time.monotonic() + 120, 120)
        return self._pipe

    def _receive(self, deadline: float, time_limit: float) -> Any:
        assert self._pipe is not None
        try:
            if self._pipe.poll(max(0.0, deadline - time.monotonic())):
                return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            self.stop()
            raise WorkerLost(_cause(code)) from None
        self.stop()
        raise WorkerLost(f"took longer than its limit of {time_limit:.0f} s", timed_out=True)


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ": the system's memory ran out" if -code == signal.SIGKILL else ""
        return f"the worker was ended by {name}{hint}"
    return f"the worker ended with exit status {code}"


def _main(
    pipe: Connection,
    threads: int,
    device: str,
    memory_share: float,
    operators: bool,
    plugins: Sequence[str],
) -> None:
    """The worker's life: say what machine this is, then measure what comes until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if not device.startswith("cuda"):
        limit = int(memory_share * psutil.virtual_memory().total)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    import torch
    from threadpoolctl import threadpool_limits

    from benchmarks.measure.machine import machine
    from benchmarks.training import checkpoint

    threadpool_limits(threads)
    torch.set_num_threads(threads)
    for plugin in plugins:
        load_plugin(plugin)
    if operators:  # what the modules of data sets compute as they are imported is no case's
        datasets.names()
    pipe.send(machine(device))
    while True:
        try:
            texts, checkpoint.slots = pipe.recv()
        except EOFError:
            return
        cases = [Case.model_validate_json(text) for text in texts]
        _measure(pipe, cases, operators)


def _measure(pipe: Connection, cases: Sequence[Case], operators: bool) -> None:
    """Measure one block; an exception becomes the failure of the cases it leaves behind."""
    left = {case.key for case in cases}
    lost = Result(failure="the study gave no result")
    beside, start = Beside(), time.perf_counter()
    try:
        for case in cases:
            own.admit(case.dataset or "")
        study = registry[cases[0].study]
        for key, result in dispatched(study, cases) if operators else study.measure(cases):
            left.discard(key)
            elapsed = time.perf_counter() - start
            seconds = elapsed if result.seconds is None else result.seconds
            pipe.send((key, Measured(result, seconds, beside.shared())))
            start = time.perf_counter()
    except Exception as error:
        lost = Result.of(error)
    for key in left:
        pipe.send((key, Measured(lost, time.perf_counter() - start, beside.shared())))
    pipe.send(None)


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on using the machine."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
