"""Locks that say who holds them: of a results folder, and of this machine for its timings."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import filelock
import psutil

from benchmarks.core.store import FolderError, check_name

HOST = "/tmp"  # not TMPDIR, which batch systems set for each job
VARIABLE = "FLOWGAUGE_HOST"  # another folder, which containers of one host may share
OTHERWISE = f"; {VARIABLE}=FOLDER names another lock"
POLL = 0.5  # seconds between two tries


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a results folder; FolderError where that cannot be. A killed holder lets go."""

    def busy(holder: str) -> NoReturn:
        raise FolderError(
            f"{str(folder)!r} is in use by process {holder}: wait for its end, or take another one"
        )

    check_name(folder)
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            since = f"since {datetime.now():%Y-%m-%d %H:%M}"
            stack.enter_context(_holding(folder / ".lock", since, busy))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise FolderError(f"{str(folder)!r} cannot be a results folder: {reason}") from error
        yield


def timing(folder: Path, waiting: Callable[[str], object]) -> AbstractContextManager[None]:
    """Hold this machine for the timings of a results folder, once no other run is timing.

    ``waiting`` is told for whom. ValueError where the variable names no folder.
    """
    return _holding(
        place() / "flowgauge-timing.lock",
        str(folder),
        lambda holder: waiting(f"Waiting for run {holder} to finish its timings{OTHERWISE}"),
    )


def place() -> Path:
    """The folder of the machine's lock; ValueError where the variable names none."""
    path = Path(os.environ.get(VARIABLE, HOST))
    if not path.is_dir():
        raise ValueError(f"{VARIABLE} is {str(path)!r}, which is not a folder")
    return path


@contextmanager
def _holding(path: Path, detail: str, waiting: Callable[[str], object]) -> Iterator[None]:
    """Hold a lock, and say so in a file beside; ``waiting`` is told of another holder meanwhile."""
    lock, note = filelock.FileLock(path, mode=0o666), path.with_name(f"{path.name}.holder")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            holder = ""
            with suppress(OSError):
                holder = note.read_text(errors="replace").strip()
            waiting(holder or "unknown")
            threading.Event().wait(POLL)
    with suppress(OSError):
        user = psutil.Process().username()
        note.write_text(f"{os.getpid()} ({user}, {detail})\n", errors="replace")
        note.chmod(0o666)
    try:
        yield
    finally:
        lock.release()
