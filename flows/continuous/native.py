"""The native engine: Runge-Kutta steps of the state as it is, and an adjoint in one solve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flows.continuous.dynamics import Dynamics, Parts
from flows.continuous.runge_kutta import (
    Attempt,
    Clock,
    Control,
    Method,
    Norm,
    Problem,
    Rate,
    Rates,
    State,
    Stepper,
    adaptive,
    fixed,
)
from flows.threads import threads_back, threads_for


@dataclass(frozen=True)
class Engine:
    """How to solve: a method, and for a length of time the number of its steps or their control.

    ``norm`` steers the steps. An adjoint's are steered by that of x, of its gradient, and of the
    gradients of the end time and of each parameter; the parameters' not where ``seminorm``.
    """

    method: Method
    steps: Callable[[float], int | Control]
    norm: Norm
    seminorm: bool = False

    def solve(
        self, dynamics: Dynamics, x: Tensor, context: Parts, start: Tensor, end: Tensor
    ) -> Parts:
        """x and its integrals at the end, by steps with a graph where gradients are enabled."""

        def rate(t: Tensor, x: Tensor) -> tuple[Tensor, Rates]:
            dx, *rates = dynamics(t, x, *context)
            return dx, tuple(rates)

        zeros = tuple(x.new_zeros(len(x)) for _ in range(dynamics.integrals))
        first = State(x, zeros)
        attempt = dynamics.compiled.attempt if dynamics.compiled else None
        y, q = self.run(rate, self.norm, dynamics, first, start, end, attempt)
        threads_back(len(x) * dynamics.weights, (y, *q))
        return y, *q

    def solve_by_adjoint(
        self, dynamics: Dynamics, x: Tensor, context: Parts, start: Tensor, end: Tensor
    ) -> Parts:
        """As `solve`, with one node of the graph, which solves backward in time."""
        inputs = (start, end, x, *context, *dynamics.parameters)
        result: Parts = _Adjoint.apply(self, dynamics, len(context), *inputs)
        return result

    def run(
        self,
        rate: Rate,
        norm: Norm,
        dynamics: Dynamics,
        state: State,
        start: Tensor,
        end: Tensor,
        attempt: Callable[..., Attempt] | None = None,
    ) -> State:
        """The state at the end of one solve; SolveError where it is not finite.

        ``attempt`` takes a Stepper's place where steps are compiled.
        """
        clock = Clock(start, end)
        problem = Problem(rate, clock, dynamics.progress)
        steps = self.steps(abs(clock.end - clock.start))
        stepper = Stepper(self.method, norm, steps if isinstance(steps, Control) else None)
        take = partial(attempt, stepper) if attempt else partial(stepper.attempt, rate)
        with threads_for(state.y.shape[-2] * dynamics.weights):
            if isinstance(steps, Control):
                state = adaptive(problem, stepper, take, state, steps)
            else:
                state = fixed(problem, stepper, take, state, steps)
        dynamics.progress.check_state(clock.end, (state.y, *state.q))
        return state


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        engine: Engine,
        dynamics: Dynamics,
        contexts: int,
        start: Tensor,
        end: Tensor,
        x: Tensor,
        *inputs: Tensor,
    ) -> Parts:
        result = engine.solve(dynamics, x, inputs[:contexts], start, end)
        ctx.engine, ctx.dynamics, ctx.contexts = engine, dynamics, contexts
        ctx.save_for_backward(start, end, *inputs, *result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        start, end, *saved = ctx.saved_tensors
        own = len(saved) - len(gradients)  # how many are inputs, not results
        dynamics: Dynamics = ctx.dynamics
        dynamics.progress.begin_adjoint()
        adjoint = _Augmented(
            ctx.engine,
            dynamics,
            context=saved[: ctx.contexts],
            parameters=saved[ctx.contexts : own],
            moving=any(ctx.needs_input_grad[3:5]),
            gradients=gradients,
        )
        before, of_end = adjoint.state(end, saved[own:])
        attempt = None
        if dynamics.compiled:
            fixed = adjoint.moving, adjoint.of_integrals
            attempt = partial(dynamics.compiled.attempt_adjoint, *fixed)
        after = ctx.engine.run(adjoint.rate, adjoint.norm, dynamics, before, end, start, attempt)
        return None, None, None, *adjoint.gradients_of(after, of_end)


@dataclass(frozen=True)
class _Norm:
    """The largest of the norms of the parts of an adjoint's state that steer its steps.

    ``sizes`` are the numbers of elements of the parameters, none where they do not steer.
    """

    norm: Norm
    integrals: int
    moving: bool
    sizes: tuple[int, ...]

    def __call__(self, y: Tensor, q: Sequence[Tensor]) -> Tensor:
        count = self.integrals
        norms = [self.norm(y[0], q[:count]), self.norm(y[1], q[count : 2 * count])]
        if self.moving:
            norms.append(q[2 * count].abs())
        if self.sizes:
            rows = torch.stack([torch.linalg.vector_norm(part) for part in q[-1].split(self.sizes)])
            norms.append((rows / rows.new_tensor([size**0.5 for size in self.sizes])).amax())
        return torch.stack(norms).amax()


class _Augmented:
    """The adjoint of a solve: y is x and the gradient of x, q all that is integrated beside them.

    That is the integrals of the solve, their gradients (constant), the gradient of the time where
    it is ``moving``, those of the context, and those of all parameters in a row.
    Chen et al., Neural Ordinary Differential Equations, 2018, arXiv:1806.07366, appendix C.
    """

    def __init__(
        self,
        engine: Engine,
        dynamics: Dynamics,
        context: Sequence[Tensor],
        parameters: Sequence[Tensor],
        moving: bool,
        gradients: Parts,
    ) -> None:
        self.dynamics, self.moving = dynamics, moving
        self.context, self.parameters = context, parameters
        self.of_x, *self.of_integrals = gradients
        self.sizes = [p.numel() for p in parameters]
        steering = () if engine.seminorm else tuple(self.sizes)
        self.norm = _Norm(engine.norm, len(self.of_integrals), moving, steering)

    def state(self, end: Tensor, result: Parts) -> tuple[State, Tensor | None]:
        """The adjoint's state at the end of the solve, and the gradient of the end time."""
        x, *integrals = result
        of_end = None
        if self.moving:
            rates = self.dynamics(end, x, *self.context)
            products = zip(rates, (self.of_x, *self.of_integrals), strict=True)
            of_end = torch.stack([(rate * gradient).sum() for rate, gradient in products]).sum()
        parts = [*integrals, *self.of_integrals]
        parts += [] if of_end is None else [-of_end]
        parts += [torch.zeros_like(c) for c in self.context]
        parts += [x.new_zeros(sum(self.sizes))] if self.sizes else []
        return State(torch.stack([x, self.of_x]), tuple(parts)), of_end

    def rate(self, t: Tensor, y: Tensor) -> tuple[Tensor, Rates]:
        """The rates of all parts: those of the solve, and products with its Jacobians."""
        with torch.enable_grad():
            x = y[0].detach().requires_grad_()
            t = t.detach().requires_grad_(self.moving)
            context = [c.detach().requires_grad_() for c in self.context]
            rates = self.dynamics(t, x, *context)
        inputs = [x, *([t] if self.moving else []), *context, *self.parameters]
        pairs = zip(rates, (y[1], *self.of_integrals), strict=True)
        chosen = [(rate, -gradient) for rate, gradient in pairs if rate.requires_grad]
        if chosen:
            outputs, cotangents = zip(*chosen, strict=True)
            products = torch.autograd.grad(outputs, inputs, cotangents, materialize_grads=True)
        else:
            products = tuple(torch.zeros_like(tensor) for tensor in inputs)
        of_x, *others = products
        beside = others[: len(others) - len(self.sizes)]
        dx, *of_integrals = (rate.detach() for rate in rates)
        of_q: list[Tensor | None] = [*of_integrals, *(None for _ in of_integrals), *beside]
        if self.sizes:
            of_q.append(torch.cat([p.reshape(-1) for p in others[len(beside) :]]))
        return torch.stack([dx, of_x]), tuple(of_q)

    def gradients_of(self, state: State, of_end: Tensor | None) -> list[Tensor | None]:
        """Gradients of start, end, x, context and parameters, from the state at the start."""
        beside = list(state.q[2 * len(self.of_integrals) :])
        of_start = beside.pop(0) if self.moving else None
        of_parameters = beside.pop().split(self.sizes) if self.sizes else ()
        shaped = [g.view_as(p) for g, p in zip(of_parameters, self.parameters, strict=True)]
        return [of_start, of_end, state.y[1], *beside, *shaped]
