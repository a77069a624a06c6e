"""Solving dy/dt = f(t, y), with integrals beside it, by explicit Runge-Kutta steps.

Times and step sizes are floats. The error of a step is the one number that is read from tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torchdiffeq._impl.odeint import SOLVERS

from flows.continuous.dynamics import Progress
from flows.functorch import transforming


@dataclass(frozen=True)
class Method:
    """A tableau: stage i is at t + c_i h and y + h Σ_j a_ij k_j; the step ends at y + h Σ b_i k_i.

    ``nodes`` and ``stages`` are c and a of all stages but the first. ``error`` has the weights of
    the embedded estimate of the error, none at fixed steps. ``order`` is that of the step control.
    """

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    solution: tuple[float, ...]
    error: tuple[float, ...] = ()

    @property
    def closing(self) -> bool:
        """Whether the last stage is at the solution."""
        return bool(self.stages) and self.solution == (*self.stages[-1], 0.0)


@cache
def embedded(name: str) -> Method:
    """The pair of methods that torchdiffeq has by this name."""
    solver = SOLVERS[name]
    tableau = solver.tableau
    return Method(
        solver.order,
        tuple(tableau.alpha.tolist()),
        tuple(tuple(row.tolist()) for row in tableau.beta),
        tuple(tableau.c_sol.tolist()),
        tuple(tableau.c_error.tolist()),
    )


FIXED: dict[str, Method] = {
    "euler": Method(1, (), (), (1.0,)),
    "midpoint": Method(2, (1 / 2,), ((1 / 2,),), (0.0, 1.0)),
    "heun2": Method(2, (1.0,), ((1.0,),), (1 / 2, 1 / 2)),
    "heun3": Method(3, (1 / 3, 2 / 3), ((1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4)),
    "rk4": Method(  # Kutta's 3/8 rule
        4,
        (1 / 3, 2 / 3, 1.0),
        ((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        (1 / 8, 3 / 8, 3 / 8, 1 / 8),
    ),
}


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


class Clock:
    """The times of one solve: floats to step by, and scalar tensors to evaluate at.

    Where the start or the end has a graph the tensors have it too: all of them move with the
    start, and by a share of their own with the end.
    """

    def __init__(self, start: Tensor, end: Tensor) -> None:
        self.first = start
        self.start, self.end = torch.stack([start, end]).tolist()
        self.moving = torch.is_grad_enabled() and (start.requires_grad or end.requires_grad)
        if self.moving:
            self._shift = start - start.detach()
            self._growth = end - end.detach() - self._shift

    def step(
        self, t: float, h: float, nodes: Sequence[float], shares: tuple[float, float]
    ) -> tuple[float | Tensor, Sequence[Tensor]]:
        """The length of a step from t, and the times of its stages at ``nodes``.

        ``shares``, from 0 to 1, say how the step's start and end move with the end of the solve.
        """
        at = [t + node * h for node in nodes]
        times = torch.tensor(at, dtype=self.first.dtype, device=self.first.device).unbind()
        if not self.moving:
            return h, times
        share, more = shares[0], shares[1] - shares[0]
        moved = [
            time + self._shift + (share + node * more) * self._growth
            for time, node in zip(times, nodes, strict=True)
        ]
        return (h + more * self._growth if more else h), moved


@dataclass(frozen=True)
class Problem:
    """One solve: its right-hand side, times and progress."""

    rate: Rate
    clock: Clock
    progress: Progress


Take = Callable[[Step], Attempt]  # as `Stepper.attempt` does, or compiled


def fixed(problem: Problem, stepper: Stepper, take: Take, state: State, steps: int) -> State:
    """The state at the end, after equal steps."""
    clock = problem.clock
    h = (clock.end - clock.start) / steps
    for n in range(steps):
        t, shares = clock.start + n * h, (n / steps, (n + 1) / steps)
        problem.progress.check_step(t, abs(h))
        problem.progress.check_state(t, (state.y, *state.q))
        length, times = clock.step(t, h, (0.0, *stepper.method.nodes), shares)
        state = take(Step(state, None, length, times)).end
    return state


def adaptive(
    problem: Problem, stepper: Stepper, take: Take, state: State, control: Control
) -> State:
    """The state at the end, by steps with errors within the tolerance, the last to land there."""
    clock, progress, method = problem.clock, problem.progress, stepper.method
    t, way = clock.start, math.copysign(1.0, clock.end - clock.start)
    rates = problem.rate(clock.first, state.y)
    dt = control.first_step or stepper.first_step(
        control, problem.rate, state, rates, clock.first, way
    )
    while t != clock.end:
        progress.check_step(t, dt)
        lands = way * t + dt >= way * clock.end
        h = clock.end - t if lands else way * dt
        length, times = clock.step(t, h, method.nodes, (0.0, float(lands)))
        attempt = take(Step(state, rates, length, times, lands))
        ratio = float(attempt.ratio)  # type: ignore[arg-type]  # a control has errors estimated
        progress.count_step(ratio <= 1)
        if math.isnan(ratio):  # a step that went too far, or a field that is not finite here
            dt = abs(h) * control.shrink if bool(torch.isfinite(rates[0]).all()) else 0.0
            continue
        dt = abs(h) * control.factor(ratio, method.order)
        if ratio <= 1:
            t = clock.end if lands else t + h
            state, rates = attempt.end, attempt.rates
    return state
