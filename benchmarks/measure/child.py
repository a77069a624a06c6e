"""Processes of Python that this one starts: they import what it does, and end with it.

None looks for modules in its working folder: a user's `signal.py` there is no part of Python.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection, Pipe
from typing import Any

import psutil

SAFE = {"PYTHONSAFEPATH": "1"}  # for those that the children start, such as `multiprocessing` does
MARK = "FLOWGAUGE_FAMILY"  # the variable that names a process's family


def command(function: str, *arguments: str) -> list[str]:
    """Return the command that calls ``module:name`` with texts, with this process's path."""
    module, _, name = function.partition(":")
    last = 1 + len(arguments)
    code = (
        f"import sys; sys.path[:] = sys.argv[{last}:]; "
        f"from {module} import {name}; {name}(*sys.argv[1:{last}])"
    )
    return [sys.executable, "-P", "-c", code, *arguments, *sys.path]


def connected(
    function: str, *arguments: str, env: Mapping[str, str] | None = None, **how: Any
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a process that calls ``module:name``; it, and this end of a pipe to it.

    The function is called with the descriptors of the other end and of the `lifeline`, and with
    these texts. ``env`` are all its variables, by default those of this process, and ``how`` other
    arguments of Popen.
    """
    ours, theirs = Pipe()
    with theirs:
        descriptors = theirs.fileno(), lifeline()
        process = subprocess.Popen(
            command(function, *map(str, descriptors), *arguments),
            stdin=subprocess.DEVNULL,
            env={**(os.environ if env is None else env), **SAFE},
            pass_fds=descriptors,
            **how,
        )
    return process, ours


@cache
def lifeline() -> int:
    """Return a descriptor to pass on, which is at its end once this process is, however it ends."""
    ours, _ = os.pipe()  # nobody writes, and the system closes the other end
    return ours


def ending(code: int) -> str:
    """How a process with this return code has ended: "by SIGSEGV", "with exit status 3"."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"


def end_with_parent(lifeline: int) -> None:
    """End this process with the one that has passed on its lifeline, whatever it does then.

    A thread waits for the end. Linux sends a signal too, which needs no lock of Python's.
    """
    threading.Thread(target=_exit_at_end, args=(lifeline,), daemon=True).start()
    with suppress(OSError):  # a description of its own, which has one owner
        own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY)
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)


def bound_forks(limit: int, end: signal.Signals) -> None:
    """End this process by a signal once its copies have forked so often, and each that goes on.

    A copy that forks in every call would grow faster than another process could count and kill.
    Forks of this process itself are not counted, nor those that Python knows nothing of.
    """
    own, forks, leave = os.getpid(), mmap.mmap(-1, 8), os._exit  # which all copies share

    def count() -> None:
        if os.getpid() == own:
            return
        number = int.from_bytes(forks[:], "big") + 1
        forks[:] = number.to_bytes(8, "big")
        if number > limit:
            with suppress(ProcessLookupError):  # it has ended before its copies
                os.kill(own, end)
            leave(1)

    os.register_at_fork(before=count)


def family(mark: str) -> list[psutil.Process]:
    """Return all processes that were started with an environment so marked, and what they start."""
    return [process for process in psutil.process_iter() if _marked(process, mark)]


def end_family(mark: str) -> None:
    """Kill all processes of a family; again, as long as there are new ones."""
    while members := family(mark):
        for process in members:
            with suppress(psutil.Error):
                process.kill()


class Growth:
    """Whether a family has grown beyond a limit, which bounds what forks without end.

    The system's processes are counted, which takes next to no time beside what is being measured;
    only where there are many more than before are those of the family.
    """

    def __init__(self, mark: str, limit: int) -> None:
        self.mark, self.limit = mark, limit
        self._others = len(psutil.pids())

    def beyond(self) -> bool:
        """Whether there are more processes of the family than the limit."""
        total = len(psutil.pids())
        self._others = min(self._others, total)
        if total - self._others <= self.limit:
            return False
        members = len(family(self.mark))
        self._others = total - members
        return members > self.limit


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        alive = process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return alive and process.environ().get(MARK) == mark
    except psutil.Error:  # it has ended, or is another user's
        return False


def _exit_at_end(lifeline: int) -> None:
    parent = select.poll()
    parent.register(lifeline, 0)  # nothing but that the other end was closed
    parent.poll()
    os._exit(1)
