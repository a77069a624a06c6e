"""What a row of the kit is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from flows.conformance.subject import Subject

BOTH = (torch.float64, torch.float32)
ONCE = (torch.float64,)


class NotApplicable(Exception):
    """A row that cannot be asked of this flow; the message says why."""


@dataclass(frozen=True)
class Finding:
    """A figure, the bound that it passes up to, and what to know of it."""

    value: float
    bound: float
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A question to every flow: its name, its measurement, and the dtypes that it is asked in."""

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
