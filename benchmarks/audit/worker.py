"""A process of an audit as seen from here: it is asked, may die or hang, and is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from multiprocessing.connection import Connection, Pipe
from typing import Any

from benchmarks.measure.child import SAFE, command, lifeline

STARTING = 120.0  # seconds that a process may take to import what it needs
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_starting = threading.Lock()  # no process inherits another's pipe


class Lost(RuntimeError):
    """The process died or took too long, as the message says; ``timed_out`` in the second case."""

    def __init__(self, message: str, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class Worker:
    """A handle on a process that runs ``function`` of `benchmarks.audit.server`.

    It is started when it is first asked and after every loss, and may take ``memory`` bytes.
    """

    def __init__(self, function: str, memory: int) -> None:
        self.function, self.memory = function, memory
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def ask(self, request: Any, limit: float) -> Any:
        """The answer to a request; Lost if it does not come within so many seconds."""
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
        with _starting:
            self._pipe, theirs = Pipe()
            with theirs:
                numbers = theirs.fileno(), lifeline()
                arguments = (*map(str, numbers), str(self.memory))
                self._process = subprocess.Popen(
                    command(f"benchmarks.audit.server:{self.function}", *arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **SAFE, **ONE_THREAD},
                    pass_fds=numbers,
                )
        self._receive(STARTING)

    def _receive(self, limit: float) -> Any:
        assert self._pipe is not None
        deadline = time.monotonic() + limit
        try:
            if self._pipe.poll(max(0.0, deadline - time.monotonic())):
                return self._pipe.recv()
        except (EOFError, OSError):
            self._lose(limit, timed_out=False)
        return self._lose(limit, timed_out=True)

    def _lose(self, limit: float, timed_out: bool) -> None:
        """End what is left of the process, and raise Lost."""
        assert self._process is not None
        if timed_out:
            self.stop()
            raise Lost(f"took longer than {limit:g} s", timed_out)
        code = self._process.wait()
        self.stop()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        raise Lost(f"ended {how}", timed_out)
