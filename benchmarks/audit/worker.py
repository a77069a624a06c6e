"""A process of an audit as seen from here: it is asked, may die or hang, and is started again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import psutil

from benchmarks.audit.server import END
from benchmarks.measure.process import connected, ending

POLL = 0.2  # seconds between two looks at the processor's time
PATIENCE = 6.0  # of a limit, by the clock
STARTING = 60.0  # seconds that a process may take to import what it needs
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Lost(RuntimeError):
    """The process died or took too long, as the message says; ``timed_out`` in the second case.

    ``sent`` is what it sent before.
    """

    def __init__(self, message: str, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.sent: list[Any] = []


class Worker:
    """A handle on a process that runs ``function`` of `benchmarks.audit.server`.

    It is started when it is first asked and after every loss, may take ``memory`` bytes, and loads
    ``plugins``.
    """

    def __init__(self, function: str, memory: int, plugins: Sequence[str] = ()) -> None:
        self.function, self.arguments = function, (str(memory), *plugins)
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def ask(self, request: Any, limit: float) -> tuple[list[Any], Any]:
        """What is sent for a request, and the answer at the end.

        Lost if it takes more than so many seconds of its processor. A process that is kept from its
        processor, or sleeps, has `PATIENCE` times as long.
        """
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send(request)
        except OSError:
            self._lose(limit, timed_out=False)
        return self._receive(limit)

    def kill(self) -> None:
        """End the process from another thread than the one that asks."""
        if (process := self._process) is not None:
            process.kill()

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _start(self) -> None:
        self._process, self._pipe = connected(
            f"benchmarks.audit.server:{self.function}",
            *self.arguments,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ONE_THREAD},
        )
        self._receive(STARTING)

    def _receive(self, limit: float) -> tuple[list[Any], Any]:
        assert self._pipe is not None
        start, deadline = self._spent(), time.monotonic() + PATIENCE * limit
        sent: list[Any] = []
        try:
            while self._spent() - start < limit and time.monotonic() < deadline:
                if self._pipe.poll(POLL):
                    message = self._pipe.recv()
                    if message[0] == END:
                        return sent, message[1]
                    sent.append(message)
            self._lose(limit, timed_out=True)
        except (EOFError, OSError):
            self._lose(limit, timed_out=False)
        except Lost as loss:
            loss.sent = sent
            raise

    def _spent(self) -> float:
        """Seconds of the processor that the process has used."""
        assert self._process is not None
        with contextlib.suppress(psutil.Error):  # it has ended
            times = psutil.Process(self._process.pid).cpu_times()
            return float(times.user + times.system)
        return 0.0

    def _lose(self, limit: float, timed_out: bool) -> NoReturn:
        """End what is left of the process, and raise Lost."""
        assert self._process is not None
        if timed_out:
            self.stop()
            raise Lost(f"took longer than {limit:g} s", timed_out)
        code = self._process.wait()
        self.stop()
        raise Lost(f"ended {ending(code)}", timed_out)
