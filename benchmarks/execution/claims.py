"""Claims: several runs, on any hosts, share a results folder and measure each task once.

A claim is a folder in ``claims/`` with a random token. It is made under another name and renamed,
which is atomic on network file systems too, where locks may be void, and fails where there is one
already. Its owner touches it while it lives. One that was not touched for `DEATH` seconds, or whose
owner is known to have ended, may be taken over: by renaming it, which one taker alone can do. An
owner that was stopped for so long finds another token, or none, before it writes.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import psutil

from benchmarks.core import store

CLAIMS = "claims"  # the subfolder of a results folder
DEATH = 180.0  # seconds after which a claim that was not touched may be taken over
VARIABLE = "FLOWGAUGE_CLAIM_SECONDS"


class Claims:
    """The claims of one run in a results folder; a context in which they are kept alive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / CLAIMS
        name = uuid.uuid4().hex
        self.token = " ".join([name, *_process(os.getpid())])
        self.run = f"run-{name}"  # what says that the run is going, once it is claimed
        self.death = death()
        self._held: set[str] = set()
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._touch, daemon=True)

    def __enter__(self) -> Self:
        self._beat.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._beat.join()
        for name in list(self._held):
            self.release(name)
        with suppress(OSError):  # unless others hold claims
            self.folder.rmdir()

    def take(self, name: str) -> bool:
        """Claim a task; False where another run holds it."""
        path, ready = self.folder / name, self.folder / f".{uuid.uuid4().hex}"
        if path.exists():
            token = _token(path)
            if not (self._dead(path, token) and self._removed(path, token)):
                return False
        try:
            ready.mkdir(parents=True)
            (ready / "token").write_text(self.token)
        except OSError as error:
            shutil.rmtree(ready, ignore_errors=True)
            raise OSError(error.errno, error.strerror, str(path)) from error
        try:
            ready.rename(path)
        except OSError:  # another was faster, unless a network file system has asked twice
            shutil.rmtree(ready, ignore_errors=True)
            if not self.holds(name):
                return False
        self._held.add(name)
        return True

    def holds(self, name: str) -> bool:
        """Whether a claim is still this run's."""
        return _token(self.folder / name) == self.token

    def release(self, name: str) -> None:
        """Give up a claim, unless another run has taken it over."""
        self._held.discard(name)
        if self.holds(name):
            self._bury(self.folder / name)

    def others(self) -> list[str]:
        """The names that other runs hold, and have touched within `DEATH`."""
        paths = [path for path in _claimed(self.folder) if path.name not in self._held]
        return [path.name for path in paths if not self._dead(path, _token(path))]

    def sweep(self) -> None:
        """Remove the claims of runs that have ended, where no other run is going."""
        for path in list(_claimed(self.folder)):
            if self._dead(path, token := _token(path)):
                self._removed(path, token)
        for path in self.folder.glob(".*"):  # what was half made, or half removed
            shutil.rmtree(path, ignore_errors=True)

    def _touch(self) -> None:
        while not self._over.wait(self.death / 6):
            for name in list(self._held):
                if self.holds(name):
                    with suppress(OSError):
                        os.utime(self.folder / name / "token")

    def _dead(self, path: Path, token: str | None) -> bool:
        """Whether a claim with this token was not touched for `DEATH`, by the file system's clock.

        Or whether its owner was a process of this machine that has ended.
        """
        if _ended(token):
            return True
        touched = _modified(path / "token") or _modified(path)
        return touched is not None and self._now() - touched > self.death

    def _now(self) -> float:
        """The file system's time: a network file system's clock is its server's."""
        probe = self.folder / f".{uuid.uuid4().hex}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:  # a folder that this process may only read
            return time.time()
        finally:
            with suppress(OSError):
                probe.unlink()

    def _removed(self, path: Path, dead: str | None) -> bool:
        """Take the claim of a dead token away; False where another was faster.

        What was renamed may be the claim of somebody who was faster still: it is put back.
        """
        grave = self.folder / f".{uuid.uuid4().hex}"
        try:
            path.rename(grave)
        except FileNotFoundError:
            return True  # its owner, or another taker: try to claim it
        if _token(grave) != dead:
            with suppress(OSError):
                grave.rename(path)
            return False
        shutil.rmtree(grave, ignore_errors=True)
        return True

    def _bury(self, path: Path) -> None:
        grave = self.folder / f".{uuid.uuid4().hex}"
        with suppress(OSError):
            path.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)


def alive(folder: Path) -> bool:
    """Whether a run that is going holds a claim in a results folder."""
    return bool(Claims(folder).others())


@contextmanager
def at_rest(folder: Path) -> Iterator[None]:
    """Hold a results folder in which no run measures; FolderError where that cannot be."""
    with store.held(folder):
        if alive(folder):
            raise store.Busy(f"a run measures in {str(folder)!r}: wait for its end")
        yield


def _claimed(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("[!.]*") if path.is_dir())


def _token(path: Path) -> str | None:
    try:
        return (path / "token").read_text()
    except OSError:
        return None


def _process(number: int) -> tuple[str, str, str]:
    """What identifies a process: where its number counts, the number, and when it began."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        where = f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
        status = Path(f"/proc/{number}/stat").read_text()
        return where, str(number), status.rpartition(")")[2].split()[19]  # ticks since boot
    except FileNotFoundError:  # no such process, or another system
        return socket.gethostname(), str(number), str(psutil.Process(number).create_time())


def _ended(token: str | None) -> bool:
    """Whether the process that a token names was one of this machine, and has ended."""
    parts = (token or "").split(" ")
    if len(parts) != 4 or parts[1] != _process(os.getpid())[0]:
        return False
    try:
        return list(_process(int(parts[2]))) != parts[1:]
    except (psutil.Error, ValueError):
        return True


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def death() -> float:
    """The seconds of `DEATH`, or of the environment's variable; ValueError for what is no time."""
    text = os.environ.get(VARIABLE) or str(DEATH)
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < 1e6:
            return seconds
    raise ValueError(f"{VARIABLE} is {text!r}: write seconds from 0 to a million")
