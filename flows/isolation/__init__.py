"""What code may change in its process for all that runs after it, and how that is undone.

A flow, a plug-in or a library may set a default dtype, a number of threads, hooks, an environment
variable, or replace a function of torch. Between two measurements everything is as it was.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = "path of modules"  # which plug-ins may extend


@dataclass(frozen=True)
class Moved:
    """Names of what was undone, and of what cannot be: then a new process has to go on."""

    undone: tuple[str, ...]
    lost: tuple[str, ...]


class Process:
    """This process as it is now: its settings, what modules hold, its threads and children."""

    def __init__(self) -> None:
        from flows.isolation.patches import Namespaces

        self._namespaces = Namespaces()
        self._settings = _read()
        self._company = _company()

    def restore(self) -> Moved:
        """Undo what has changed since; random streams and what libraries set are not named."""
        undone = self._namespaces.restore()  # first: what is called below may have been replaced
        lost = self._namespaces.restore() if undone else []
        moved = [s for s, value in self._settings if _undo(s, value)]
        undone += [setting.name for setting in moved if not setting.own]
        lost += [s.name for s, value in self._settings if s in moved and s.read() != value]
        lost += sorted(_company() - self._company)
        return Moved(tuple(undone), tuple(lost))


@contextmanager
def unchanged(what: str) -> Iterator[None]:
    """Undo what an import within the block does to settings, and warn that ``what`` does it."""
    settings = [(setting, value) for setting, value in _read() if setting.name != PATH]
    try:
        yield
    finally:
        moved = [setting for setting, value in settings if _undo(setting, value)]
        if names := ", ".join(setting.name for setting in moved if not setting.own):
            warnings.warn(f"{what} changes {names} on import: undone", stacklevel=4)


def _read() -> list[tuple[Any, Any]]:
    """Return all settings, in the order in which they can be written, and their values."""
    from flows.isolation.process_settings import process_settings
    from flows.isolation.torch_settings import torch_settings

    return [(setting, setting.read()) for setting in (*torch_settings(), *process_settings())]


def _undo(setting: Any, value: Any) -> bool:
    """Write a value unless the setting has it; whether it was written."""
    if setting.read() == value:
        return False
    setting.write(value)
    return True


def _company() -> set[str]:
    """Return the threads of Python and, on Linux, the children of this process, by name."""
    threads = {f"thread {thread.name!r} ({thread.ident})" for thread in threading.enumerate()}
    lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    numbers = [number for text in lists for number in text.split()]
    return threads | {f"process {number}" for number in numbers if _lives(number)}


def _lives(number: str) -> bool:
    """Whether a process is there, neither dead nor a helper of Python's own."""
    try:
        status = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{number}/cmdline").read_text()
    except OSError:
        return False
    return status not in "ZX" and "multiprocessing.resource_tracker" not in command
