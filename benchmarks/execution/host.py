"""The host's locks: times are measured with nothing of ours beside, trainings beside each other.

They belong to the machine and not to a results folder: whoever runs trainings there waits while
times are measured, of whatever folder. Containers that do not share `FOLDER` do not see each other;
there the reference workload tells.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

FOLDER = "/tmp"  # not TMPDIR, which batch systems set for each job
VARIABLE = "FLOWGAUGE_HOST"  # another folder, which containers of one host may share
POLL = 0.2  # seconds between two tries


def folder() -> Path:
    """The folder of the locks; ValueError where the variable names none."""
    path = Path(os.environ.get(VARIABLE, FOLDER))
    if not path.is_dir():
        raise ValueError(f"{VARIABLE} is {str(path)!r}, which is no folder")
    return path


@contextmanager
def beside(waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the host together with others; ``waiting`` is called as long as that takes time."""
    with _locked("queue", fcntl.LOCK_SH, waiting):  # behind whoever wants the host alone
        pass
    with _locked("lock", fcntl.LOCK_SH, waiting):
        yield


@contextmanager
def alone(waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the host alone, once all who hold it have let go."""
    with (
        _locked("queue", fcntl.LOCK_EX, waiting),
        _locked("lock", fcntl.LOCK_EX, waiting),
    ):
        yield


@contextmanager
def reserved(cores: Sequence[frozenset[int]], count: int) -> Iterator[list[frozenset[int]]]:
    """Hold so many of these cores, first those that no other run holds to bind workers to."""
    with ExitStack() as stack:
        free: list[frozenset[int]] = []
        shared: list[frozenset[int]] = []
        for core in cores:
            if len(free) == count:
                break
            handle = _opened(f"core-{min(core)}")
            stack.callback(os.close, handle)
            (free if _taken(handle, fcntl.LOCK_EX) else shared).append(core)
        yield [*free, *shared][:count]


@contextmanager
def _locked(name: str, mode: int, waiting: Callable[[], object]) -> Iterator[None]:
    """Hold a lock file; the system lets go of it where the process dies.

    Holders that were stopped (SIGSTOP, Ctrl-Z) use nothing of the machine: nobody waits for them.
    """
    handle = _opened(name)
    try:
        while not _taken(handle, mode) and not _stopped(handle):
            waiting()  # which may raise: a lock that blocks would not let go of its thread
            threading.Event().wait(POLL)
        yield
    finally:
        os.close(handle)


def _taken(handle: int, mode: int) -> bool:
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stopped(handle: int) -> bool:
    """Whether the processes that hold a file's lock are known, and stopped with their children."""
    inode = str(os.fstat(handle).st_ino)
    with suppress(OSError, psutil.Error):
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        holders = {
            int(line[4]) for line in lines if line[1] == "FLOCK" and line[5].endswith(f":{inode}")
        }
        processes = [psutil.Process(holder) for holder in holders]
        processes += [child for each in processes for child in each.children(recursive=True)]
        return bool(holders) and all(p.status() == psutil.STATUS_STOPPED for p in processes)
    return False


def _opened(name: str) -> int:
    """Open a lock file that all users of the host share.

    Linux refuses to create, and thus to open with O_CREAT, what another user owns in ``/tmp``.
    """
    path = folder() / f"flowgauge-host.{name}"
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY)
        with suppress(FileExistsError):
            handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(handle, 0o666)  # whatever the umask says
            return handle
