"""A setting of a process that any code may change for all that runs after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """How a setting is read, and written with what was read.

    Of one's ``own`` accord: libraries move it in the course of things, which nobody is told.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    own: bool = False


def refill(table: Any, value: Any) -> None:
    """Make a table hold exactly what another one does."""
    table.clear()
    table.update(value)
