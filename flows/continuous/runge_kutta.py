"""Solving dy/dt = f(t, y), with integrals beside it, by explicit Runge-Kutta steps.

Times and step sizes are floats. The error of a step is the one number that is read from tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flows.continuous.dynamics import Progress
from flows.continuous.steps import Attempt, Control, Rate, State, Step, Stepper


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
