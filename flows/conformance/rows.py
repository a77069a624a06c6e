"""Rows of the kit and their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from flows.conformance.subject import Subject

BOTH = (torch.float64, torch.float32)
ONCE = (torch.float64,)


class NotApplicable(Exception):
    """Raised by a row that does not apply to this flow; the message has the reason."""


@dataclass(frozen=True)
class Finding:
    """A figure, the largest value that passes, and a note."""

    value: float
    bound: float
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A property of every flow: its name, its measurement, and the dtypes to measure it in."""

    name: str
    measure: Callable[[Subject], Finding]
    dtypes: tuple[torch.dtype, ...]


def row(
    rows: list[Row], name: str, dtypes: tuple[torch.dtype, ...] = BOTH
) -> Callable[[Callable[[Subject], Finding]], Callable[[Subject], Finding]]:
    """Decorator: add a measurement to the rows of a module."""

    def decorate(measure: Callable[[Subject], Finding]) -> Callable[[Subject], Finding]:
        rows.append(Row(name, measure, dtypes))
        return measure

    return decorate
