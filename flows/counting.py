"""Counting evaluations of the vector field: NFE, the cost unit of continuous flows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass
class NFE:
    """Evaluations of field and trace together, and the steps of the forward solves.

    ``backward`` are evaluations outside a forward solve: those of an adjoint. Steps are counted
    for adaptive solvers, whose steps can be rejected.
    """

    forward: int = 0
    backward: int = 0
    accepted: int = 0
    rejected: int = 0


@contextlib.contextmanager
def count_nfe(flow: nn.Module) -> Iterator[NFE]:
    """Count the evaluations of every ODE in ``flow`` within the block; a flow without one: 0.

    The counter hangs on the modules, so a backward pass in another thread is counted too.
    """
    nfe = NFE()
    counters: list[Any] = [m.counters for m in flow.modules() if hasattr(m, "counters")]
    for counter in counters:
        counter.append(nfe)
    try:
        yield nfe
    finally:
        for counter in counters:
            counter[:] = [other for other in counter if other is not nfe]
