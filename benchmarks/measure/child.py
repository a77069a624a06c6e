"""Processes of Python that this one starts: they import what it does, and end with it.

None looks for modules in its working folder: a user's `signal.py` there is no part of Python.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from functools import cache

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


@cache
def lifeline() -> int:
    """Return a descriptor to pass on, which is at its end once this process is, however it ends."""
    ours, _ = os.pipe()  # nobody writes, and the system closes the other end
    return ours


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


def family(mark: str) -> list[psutil.Process]:
    """Return all processes that were started with an environment so marked, and what they start."""
    return [process for process in psutil.process_iter() if _marked(process, mark)]


def end_family(mark: str) -> None:
    """Kill all processes of a family, however fast it grows."""
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
