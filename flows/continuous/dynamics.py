"""The right-hand side of one ODE solve, which counts, freezes and stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flows.bijection import concrete
from flows.counting import NFE, new_solve

State = tuple[Tensor, ...]


class SolveError(RuntimeError):
    """An ODE solve that cannot go on; the message says why, at what t, and the remedy."""


@dataclass(slots=True)
class _SoFar:
    """What a solve has done; no part of the module, which takes long to set an attribute."""

    steps: int = 0
    evaluations: int = 0
    first: State = ()  # the field's value and the trace of the first evaluation
    last: State = ()  # and of the last
    reached: State = ()  # the state of the last


class Dynamics(nn.Module):
    """The right-hand side of one solve: state (x, integrals (N,)..., context?) at time t.

    One object a solve, so that its noise is frozen, its evaluations are told apart into forward
    and backward, and its step callbacks can count and stop. ``rate(t, x, context)`` returns dx/dt
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
        self.so_far = _SoFar()

    def forward(self, t: Tensor, state: State) -> State:
        """The derivative of every part of the state."""
        for nfe in self.counters:
            solve = nfe.of(self.number)
            solve.backward += self.backward
            solve.forward += not self.backward
        so_far = self.so_far
        so_far.evaluations += 1
        so_far.reached = state
        x, context = state[0], state[1 + self.integrals :]
        dx, *rates = self.rate(t, x, *context)
        so_far.last = (dx.detach(), rates[0].detach())
        so_far.first = so_far.first or so_far.last
        return dx, *rates, *(torch.zeros_like(part) for part in context)

    def turn(self, start: float) -> None:
        """From here on the solve is its adjoint's, which begins at ``start``."""
        self.backward, self.start, self.so_far = True, start, _SoFar()

    def check_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        """Before a step: stop a solve that cannot end."""
        t = t.detach()  # under "backprop" the step sizes have a graph
        so_far = self.so_far  # a graph may go back twice
        so_far.steps = 1 if float(t) == self.start else so_far.steps + 1
        if so_far.steps > self.max_steps:
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
        so_far = self.so_far
        found = zip(("field returned", "trace is") * 2, so_far.first + so_far.last, strict=False)
        for what, value in found:  # the first before the last: NaN makes all that follows NaN
            if concrete(value) and not bool(torch.isfinite(value).all()):
                bad = int((~torch.isfinite(value)).reshape(len(value), -1).any(1).sum())
                raise SolveError(
                    f"the {what} NaN or infinity for {bad} of {len(value)} samples near "
                    f"t={float(t):.6g}: check its parameters and inputs, or lower the learning rate"
                )


class FixedDynamics(Dynamics):
    """Under a fixed-step solver, of which nobody sees the end of an adjoint's last step."""

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
    """Under an adaptive solver, which also tells what became of each step."""

    def callback_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        """Called by torchdiffeq before each step, whose size it takes for a constant.

        torchdiffeq does so but for the first one: a derivative of the error of the solution, by a
        graph that would reach every time of the solve.
        """
        dt.detach_()
        self.check_step(t, state, dt)

    def callback_accept_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        """Called by torchdiffeq after a step whose error is within the tolerance."""
        for nfe in self.counters:
            nfe.of(self.number).accepted += 1

    def callback_reject_step(self, t: Tensor, state: State, dt: Tensor) -> None:
        """Called by torchdiffeq after a step that has to be taken again."""
        for nfe in self.counters:
            nfe.of(self.number).rejected += 1

    callback_step_adjoint = callback_step

    def callback_accept_step_adjoint(self, t: Tensor, state: State, dt: Tensor) -> None:
        """The same of the adjoint's steps."""
        for nfe in self.counters:
            nfe.of(self.number).accepted_backward += 1

    def callback_reject_step_adjoint(self, t: Tensor, state: State, dt: Tensor) -> None:
        """The same of the adjoint's steps."""
        for nfe in self.counters:
            nfe.of(self.number).rejected_backward += 1


class ScipyDynamics(Dynamics):
    """Under scipy's solver, which has no callbacks and asks for evaluations without end."""

    def forward(self, t: Tensor, state: State) -> State:
        """The derivative of every part of the state; stops a solve that cannot end."""
        rates = super().forward(t, state)
        self.check_finite(t.detach())
        if self.so_far.evaluations > self.max_steps:
            raise SolveError(
                f"the solve passed its limit of {self.max_steps} evaluations near "
                f"t={float(t):.6g}: raise max_steps, which counts evaluations for scipy_solver, or "
                "rtol and atol"
            )
        return rates
