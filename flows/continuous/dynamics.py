"""The right-hand side of one ODE solve: it counts evaluations and stops solves that fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flows.bijection import concrete
from flows.counting import NFE, new_solve

State = tuple[Tensor, ...]


class SolveError(RuntimeError):
    """A failed ODE solve; the message has the cause, the time and the remedy."""


@dataclass(slots=True)
class _Progress:
    """Progress of a solve, outside of the module, whose attributes are slow to set."""

    steps: int = 0
    evaluations: int = 0
    first: State = ()  # the field's value and the trace of the first evaluation
    last: State = ()  # and of the last
    state: State = ()  # the state of the last


class Dynamics(nn.Module):
    """The right-hand side of one solve: state (x, integrals (N,)..., context?) at time t.

    One object a solve, so that its noise is frozen, its evaluations are counted as forward or
    backward, and its step callbacks can count and stop. ``rate(t, x, context)`` returns dx/dt
    (N, D) and the rates (N,) of ``integrals`` further states, the first of them the
    log-determinant; a context is carried as a constant part of the state, since the adjoint method
    gives no gradient to what is captured in a closure.
    """

    integrals = 1

    def __init__(self, field: nn.Module, rate: Callable[..., State], counters: list[NFE]) -> None:
        super().__init__()
        self.field = field  # registered, so that the adjoint finds its parameters
        self.rate, self.counters, self.number = rate, counters, new_solve()
        self.max_steps, self.start, self.backward = 0, 0.0, False
        self.progress = _Progress()

    def forward(self, t: Tensor, state: State) -> State:
        """The derivative of every part of the state."""
        for nfe in self.counters:
            solve = nfe.of(self.number)
            solve.backward += self.backward
            solve.forward += not self.backward
        progress = self.progress
        progress.evaluations += 1
        progress.state = state
        x, context = state[0], state[1 + self.integrals :]
        dx, *rates = self.rate(t, x, *context)
        progress.last = (dx.detach(), rates[0].detach())
        progress.first = progress.first or progress.last
        return dx, *rates, *(torch.zeros_like(part) for part in context)

    def begin_adjoint(self, start: float) -> None:
        """Count what follows as the adjoint's solve, which begins at ``start``."""
        self.backward, self.start, self.progress = True, start, _Progress()

    def check_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        """Raise SolveError before a step of a solve that cannot end."""
        t = t.detach()  # under "backprop" the step sizes have a graph
        progress = self.progress  # a graph may go back twice
        progress.steps = 1 if float(t) == self.start else progress.steps + 1
        if progress.steps > self.max_steps:
            raise SolveError(
                f"the solve passed its limit of {self.max_steps} steps at t={float(t):.6g}: the "
                "field is stiff or the tolerance too tight; raise max_steps, rtol or atol"
            )
        if not bool(t.abs() + dt > t.abs()):
            self.check_finite(t)
            raise SolveError(
                f"the step size fell below what t={float(t):.6g} can resolve: the field is stiff "
                "or grows without bound; loosen rtol and atol, or regularise the field"
            )
        # norms may overlook it: to Python max(0, NaN) is 0
        if not all(bool(torch.isfinite(part).all()) for part in state if concrete(part)):
            self.check_finite(t)
            raise SolveError(f"the solve has values that are not finite at t={float(t):.6g}")

    def check_finite(self, t: Tensor | float) -> None:
        """SolveError if the field or its trace is not finite, at first or just now."""
        progress = self.progress
        values = zip(
            ("field returned", "trace is") * 2, progress.first + progress.last, strict=False
        )
        for what, value in values:  # the first before the last: NaN makes all that follows NaN
            if concrete(value) and not bool(torch.isfinite(value).all()):
                bad = int((~torch.isfinite(value)).reshape(len(value), -1).any(1).sum())
                raise SolveError(
                    f"the {what} NaN or infinity for {bad} of {len(value)} samples near "
                    f"t={float(t):.6g}: check its parameters and inputs, or lower the learning rate"
                )


class FixedDynamics(Dynamics):
    """Dynamics under a fixed-step solver, which has no callback after an adjoint's last step."""

    def forward(self, t: Tensor, state: State) -> State:
        """The derivative of every part of the state; checked where no step follows it."""
        rates = super().forward(t, state)
        if self.backward:
            self.check_finite(t.detach())
        return rates

    def callback_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        """Called by torchdiffeq before each step."""
        self.check_step(t, state, dt)

    callback_step_adjoint = callback_step


class AdaptiveDynamics(Dynamics):
    """Dynamics under an adaptive solver, which also reports accepted and rejected steps."""

    def callback_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        """Called by torchdiffeq before each step; detach its size from the graph.

        torchdiffeq detaches all but the first, whose graph would reach every time of the solve
        and add a derivative of the solver's error.
        """
        dt.detach_()
        self.check_step(t, state, dt)

    def callback_accept_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        """Called by torchdiffeq after a step whose error is within the tolerance."""
        for nfe in self.counters:
            nfe.of(self.number).accepted += 1

    def callback_reject_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        """Called by torchdiffeq after a step whose error is beyond the tolerance."""
        for nfe in self.counters:
            nfe.of(self.number).rejected += 1

    callback_step_adjoint = callback_step

    def callback_accept_step_adjoint(self, t: Tensor, state: State, dt: Tensor) -> None:
        """As for a forward step, for one of the adjoint."""
        for nfe in self.counters:
            nfe.of(self.number).accepted_backward += 1

    def callback_reject_step_adjoint(self, t: Tensor, state: State, dt: Tensor) -> None:
        """As for a forward step, for one of the adjoint."""
        for nfe in self.counters:
            nfe.of(self.number).rejected_backward += 1


class ScipyDynamics(Dynamics):
    """Dynamics under scipy's solver, which has no callbacks and no limit of evaluations."""

    def forward(self, t: Tensor, state: State) -> State:
        """The derivative of every part of the state; stops a solve that cannot end."""
        rates = super().forward(t, state)
        self.check_finite(t.detach())
        if self.progress.evaluations > self.max_steps:
            raise SolveError(
                f"the solve passed its limit of {self.max_steps} evaluations near "
                f"t={float(t):.6g}: raise max_steps, which counts evaluations for scipy_solver, or "
                "rtol and atol"
            )
        return rates
