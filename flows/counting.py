"""Counting evaluations of the vector field: NFE, the cost unit of continuous flows."""

import contextlib
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from torch import nn

T = TypeVar("T")
_numbers = itertools.count()


def new_solve() -> int:
    """A number that no other solve of this process has."""
    return next(_numbers)


@dataclass
class Solve:
    """Cost of one ODE solve: evaluations of field and trace together, and steps.

    ``backward`` are evaluations outside the forward solve: those of its adjoint. Steps are counted
    for adaptive solvers, whose steps can be rejected, forward and for the adjoint.
    """

    forward: int = 0
    backward: int = 0
    accepted: int = 0
    rejected: int = 0
    accepted_backward: int = 0
    rejected_backward: int = 0


def _total(name: str) -> property:
    return property(lambda nfe: sum(getattr(solve, name) for solve in nfe.solves))


@dataclass
class NFE:
    """Solves within a block, in the order of their start; its properties are sums over them."""

    solves: list[Solve] = field(default_factory=list)
    _known: dict[int, Solve] = field(default_factory=dict, repr=False, compare=False)

    def of(self, number: int) -> Solve:
        """The record of the solve with this number, a new one where it is unknown."""
        if number not in self._known:
            self._known[number] = Solve()
            self.solves.append(self._known[number])
        return self._known[number]

    forward, backward = _total("forward"), _total("backward")
    accepted, rejected = _total("accepted"), _total("rejected")


@contextlib.contextmanager
def listening(flow: nn.Module, name: str, listener: T) -> Iterator[T]:
    """Append ``listener`` to the list ``name`` of each module that has one, for the block."""
    lists: list[list[T]] = [getattr(m, name) for m in flow.modules() if hasattr(m, name)]
    for listeners in lists:
        listeners.append(listener)
    try:
        yield listener
    finally:
        for listeners in lists:
            listeners[:] = [other for other in listeners if other is not listener]


def count_nfe(flow: nn.Module) -> AbstractContextManager[NFE]:
    """Count the evaluations of every ODE in ``flow`` within the block; a flow without one: 0.

    The counter hangs on the modules, so a backward pass in another thread is counted too.
    """
    return listening(flow, "counters", NFE())
