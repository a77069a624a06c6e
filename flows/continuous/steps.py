"""One step of an explicit Runge-Kutta method, its error, and the choice of the next.

The integrals q of dq/dt = g(t, y) do not act back on y, so they have no values within a step: one
weighted sum a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from flows.continuous.tableaus import Method
from flows.functorch import transforming

Rates = tuple[Tensor | None, ...]  # of q; None is zero
Rate = Callable[[Tensor, Tensor], tuple[Tensor, Rates]]
Norm = Callable[[Tensor, Sequence[Tensor]], Tensor]  # of y and q over their tolerances


class State(NamedTuple):
    """y and its integrals q at one time."""

    y: Tensor
    q: tuple[Tensor, ...]


class Step(NamedTuple):
    """A step to take: from a state, of a length, with stages at ``times``.

    Before them is one of known ``rates`` where there are any. Where it ``closes`` the solve, a last
    stage at its end serves the error alone: no graph of it is kept.
    """

    state: State
    rates: tuple[Tensor, Rates] | None
    length: float | Tensor
    times: Sequence[Tensor]
    closes: bool = False


class Attempt(NamedTuple):
    """Where a step ends, the rates of y and of q at its last stage, and its error.

    The error is in units of the tolerance, None where none is estimated.
    """

    end: State
    rates: tuple[Tensor, Rates]
    ratio: Tensor | None


@dataclass(frozen=True)
class Control:
    """How steps are chosen: torchdiffeq's control, and its first step where none is given."""

    rtol: float
    atol: float
    first_step: float | None = None
    safety: float = 0.9
    shrink: float = 0.2
    grow: float = 10.0

    def factor(self, ratio: float, order: int) -> float:
        """The next step over the last, which had ``ratio`` of the error that it may have."""
        if ratio == 0:
            return self.grow
        least = 1.0 if ratio < 1 else self.shrink
        return min(self.grow, max(self.safety * float(ratio ** (-1 / order)), least))

    def scaled(self, values: Tensor, *sizes: Tensor) -> Tensor:
        """Values over the tolerance of numbers with the larger of the given sizes."""
        size = sizes[0].abs()
        for other in sizes[1:]:
            size = torch.maximum(size, other.abs())
        return values / size.mul_(self.rtol).add_(self.atol)


@dataclass(frozen=True)
class Stepper:
    """One step of a method, with an estimate of its error where a ``control`` chooses steps."""

    method: Method
    norm: Norm
    control: Control | None = None

    def attempt(self, rate: Rate, step: Step) -> Attempt:
        """Take a step."""
        state, rates, length, times, closes = step
        if rates is None:
            now, *times = times
            rates = rate(now, state.y)
        method, of_y, of_q, y = self.method, [rates[0]], [rates[1]], state.y
        for index, (time, weights) in enumerate(zip(times, method.stages, strict=True), 1):
            y = _sum(state.y, length, weights, of_y)
            aside = closes and method.closing and index == len(times)
            with torch.no_grad() if aside else nullcontext():
                k, g = rate(time, y)
            of_y.append(k)
            of_q.append(g)
        if not method.closing:
            y = _sum(state.y, length, method.solution, of_y)
        columns = zip(state.q, zip(*of_q, strict=True), strict=True)
        q = tuple(_sum(part, length, method.solution, column) for part, column in columns)
        end = State(y, q)
        ratio = self._ratio(self.control, state, end, of_y, of_q, length) if self.control else None
        return Attempt(end, (of_y[-1], of_q[-1]), ratio)

    @torch.no_grad()
    def _ratio(
        self,
        control: Control,
        start: State,
        end: State,
        of_y: Sequence[Tensor],
        of_q: Sequence[Rates],
        length: float | Tensor,
    ) -> Tensor:
        def scaled(before: Tensor, after: Tensor, rates: Sequence[Tensor | None]) -> Tensor:
            if rates[0] is None:
                return before.new_zeros(())
            error = _sum(before.new_zeros(()), length, self.method.error, rates)
            return control.scaled(error, before, after)

        columns = zip(*of_q, strict=True)
        q = [scaled(*parts) for parts in zip(start.q, end.q, columns, strict=True)]
        return self.norm(scaled(start.y, end.y, of_y), q)

    @torch.no_grad()
    def first_step(
        self,
        control: Control,
        rate: Rate,
        state: State,
        rates: tuple[Tensor, Rates],
        now: Tensor,
        way: float,
    ) -> float:
        """Hairer, Nørsett and Wanner's choice, Solving ODEs I, section II.4: one evaluation."""
        of_y, of_q = rates

        def size(y: Tensor, q: Rates) -> Tensor:
            parts = [
                before.new_zeros(()) if value is None else control.scaled(value, before)
                for value, before in zip(q, state.q, strict=True)
            ]
            return self.norm(control.scaled(y, state.y), parts)

        value, slope = size(state.y, state.q), size(of_y, of_q)
        tiny = torch.full_like(value, 1e-6)
        h = torch.where(torch.minimum(value, slope) < 1e-5, tiny, 0.01 * value / slope)
        k, g = rate(now + way * h, state.y + way * h * of_y)
        pairs = zip(of_q, g, strict=True)
        turned = tuple(None if a is None or b is None else b - a for a, b in pairs)
        steepest = torch.maximum(slope, size(k - of_y, turned) / h)
        bound = (0.01 / steepest) ** (1 / self.method.order)
        longest = torch.where(steepest <= 1e-15, torch.maximum(tiny, h * 1e-3), bound)
        return float(torch.minimum(100 * h, longest))


def _sum(
    start: Tensor, h: float | Tensor, weights: Sequence[float], rates: Sequence[Tensor | None]
) -> Tensor:
    """start + h Σ w k."""
    total, own = start, False
    for weight, k in zip(weights, rates, strict=False):
        if not weight or k is None:
            continue
        if isinstance(h, Tensor):
            total = total + k * (h * weight)
        elif own:
            total.add_(k, alpha=h * weight)
        else:
            total = torch.add(total, k, alpha=h * weight)
            own = not (torch.is_grad_enabled() or transforming())  # then it may be written to
    return total
