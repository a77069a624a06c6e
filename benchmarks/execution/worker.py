"""A handle on a process that measures, which may die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.core.case import Case
from benchmarks.execution.process import STOP, STOPPED, Files, Measured, Setup, main
from flows.registry import loaded_plugins


class WorkerLost(RuntimeError):
    """The worker died or was stopped; the message says how, ``timed_out`` whether by the clock."""

    def __init__(self, message: str, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class Cancelled(Exception):
    """The run was stopped while the worker was at work."""


class Worker:
    """A handle on the worker process, started on first use and again after every loss.

    The process loads the plug-ins that this one has loaded.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.machine: dict[str, Any] = {}
        self._process: Any = None
        self._pipe: Connection | None = None
        self._cancelled = False

    def measure(
        self,
        cases: Sequence[Case],
        time_limit: float,
        files: Mapping[str, Files],
        times: bool = False,
    ) -> Iterator[tuple[str, Measured]]:
        """Each case's key and result as it comes; WorkerLost where the worker cannot go on.

        Cancelled where another thread has said so.
        ``files`` are those of each case by key. ``times`` asks for times alone, from what was kept.
        """
        pipe = self._started()
        pipe.send(([case.model_dump_json() for case in cases], dict(files), times))
        deadline = time.monotonic() + time_limit
        while True:
            message = self._receive(deadline, time_limit)
            if message is None:
                return
            if message == STOPPED:
                raise Cancelled
            yield message

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def cancel(self, gently: bool = False) -> None:
        """End the process from another thread than the one that measures, which is told.

        ``gently`` asks it to stop at its next checkpoint.
        """
        self._cancelled = True
        if self._process is not None and gently:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, STOP)
        elif self._process is not None:
            self._process.kill()

    def check(self) -> None:
        """Cancelled where another thread has said so."""
        if self._cancelled:
            raise Cancelled

    def _started(self) -> Connection:
        self.check()
        if self._process is None or not self._process.is_alive() or self._pipe is None:
            self.stop()
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=main, args=(theirs, self.setup, loaded_plugins()), daemon=True
            )
            self._process.start()
            theirs.close()
            if self._cancelled:
                self.stop()
            self.check()
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
            if self._cancelled:
                raise Cancelled from None
            raise WorkerLost(_cause(code)) from None
        self.stop()
        raise WorkerLost(f"took longer than its limit of {time_limit:.0f} s", timed_out=True)


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ": the system's memory ran out" if -code == signal.SIGKILL else ""
        return f"the worker was ended by {name}{hint}"
    return f"the worker ended with exit status {code}"
