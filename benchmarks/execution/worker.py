"""A handle on a process that measures, which may die."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.core.case import Case
from benchmarks.core.formats import brief
from benchmarks.execution import process
from benchmarks.execution.process import PROCESSES, STOP, SWARM, Files, Measured, Setup
from benchmarks.execution.tasks import plugins_of
from benchmarks.measure.machine import killed_for_memory
from benchmarks.measure.process import MARK, Growth, connected, end_family, ending

MANY = f"the worker had started more than {PROCESSES} processes"
LOOK = 0.2  # seconds between two looks at their number
GRACE = 10.0  # seconds in which a process ends that has closed its pipe


class WorkerLost(RuntimeError):
    """The worker died or was stopped; the message says how, ``timed_out`` whether by the clock."""

    def __init__(self, message: str, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class Cancelled(Exception):
    """The run was stopped while the worker was at work."""


class Worker:
    """A handle on the worker process, started on first use and again after every loss.

    The process loads the plug-ins that its cases need. Cases of other plug-ins have a new one, and
    so have those after a case whose changes cannot be undone. It has this one's environment but the
    variables named by ``without``. It is no child of `multiprocessing`: daemons may have it too.
    """

    def __init__(self, setup: Setup, without: Collection[str] = ()) -> None:
        self.setup = setup
        self.without = without
        self.machine: dict[str, Any] = {}
        self.cancelled = False
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._plugins: tuple[str, ...] = ()
        self._growth: Growth | None = None
        self._family = ""  # the mark of the process and of all that it starts
        self._killed = 0  # processes that the system had killed for memory when it was started

    def measure(
        self,
        cases: Sequence[Case],
        time_limit: float,
        files: Mapping[str, Files],
        times: bool = False,
    ) -> Iterator[tuple[str, Measured]]:
        """Each case's key and result as it comes.

        ``files`` are those of each case by key. ``times`` asks for times alone, from what was kept.
        Raises WorkerLost if the worker cannot go on, and Cancelled if another thread stopped it.
        """
        pipe = self._started(plugins_of(cases))
        deadline = time.monotonic() + time_limit
        try:
            pipe.send(([case.model_dump_json() for case in cases], dict(files), times))
        except OSError:  # it has died since the last block
            raise self._lost() from None
        left = {case.key for case in cases}
        while True:
            match self._receive(deadline, time_limit):
                case str(key), Measured() as measured if key in left:
                    left.discard(key)
                    yield key, measured
                case None | process.SPENT as end if not left:
                    if end:
                        self.stop()
                    return
                case process.STOPPED:
                    raise Cancelled
                case _:
                    self.stop()
                    raise WorkerLost("the worker sent what is no result of its task")

    def stop(self) -> None:
        """End the process, whatever it does, and what it has started."""
        self._end()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            end_family(self._family)

    def cancel(self, gently: bool = False) -> None:
        """End the process from another thread than the one that measures, which is told.

        ``gently`` asks it to stop at its next checkpoint.
        """
        self.cancelled = True
        if (process := self._process) is not None:
            process.send_signal(STOP if gently else signal.SIGKILL)

    def check(self) -> None:
        """Cancelled where another thread has said so."""
        if self.cancelled:
            raise Cancelled

    def _started(self, plugins: tuple[str, ...]) -> Connection:
        self.check()
        lives = self._process is not None and self._process.poll() is None
        if not lives or self._plugins != plugins or self._pipe is None:
            self.stop()
            self._plugins, self._family = plugins, uuid.uuid4().hex
            self._killed = killed_for_memory()
            variables = {**os.environ, MARK: self._family}
            self._process, self._pipe = connected(
                "benchmarks.execution.process:main",
                env={k: v for k, v in variables.items() if k not in self.without},
            )
            self._growth = Growth(self._family, PROCESSES)
            self._pipe.send((self.setup, plugins))
            if self.cancelled:
                self.stop()
            self.check()
            self.machine = self._receive(time.monotonic() + 120, 120)
        return self._pipe

    def _receive(self, deadline: float, time_limit: float) -> Any:
        """The next message; WorkerLost where none comes in time, and where it is none."""
        assert self._pipe is not None
        assert self._process is not None
        assert self._growth is not None
        late = WorkerLost(f"took longer than its limit of {time_limit:.0f} s", timed_out=True)
        while (left := deadline - time.monotonic()) > 0:
            if self._growth.beyond():
                self.stop()
                raise WorkerLost(MANY)
            rescue = threading.Timer(left, self._end)  # where half a message comes, and no more
            try:
                if self._pipe.poll(min(left, LOOK)):
                    rescue.start()
                    return self._pipe.recv()
            except (OSError, EOFError):
                loss = self._lost()
                raise (loss if self.cancelled or time.monotonic() < deadline else late) from None
            except Exception as error:  # whatever unpickling raises
                self.stop()
                raise WorkerLost(f"the worker sent what is no result: {brief(error)}") from error
            finally:
                rescue.cancel()
        self.stop()
        raise late

    def _lost(self) -> Exception:
        """What has become of a process whose pipe is closed: `Cancelled`, or how it died."""
        assert self._process is not None
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            code = None
        self.stop()
        if self.cancelled:
            return Cancelled()
        return WorkerLost("the worker closed its pipe" if code is None else self._cause(code))

    def _cause(self, code: int) -> str:
        if code >= 0:
            return f"the worker ended {ending(code)}"
        if -code == SWARM:
            return MANY
        how = f"the worker was ended {ending(code)}"
        if -code != signal.SIGKILL:
            return how
        if killed_for_memory() > self._killed:
            return f"{how}: the system's memory ran out"
        return f"{how}: by itself or from outside, not for want of memory"
