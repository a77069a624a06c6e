"""The native engine: explicit Runge-Kutta steps of the state, and an adjoint in one solve.

Solves dy/dt = f(t, y) with integrals beside it. Times and step sizes are floats. The error of a
step is the one number that is read from tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._pytree import tree_map

from flows.bijection import Pair
from flows.continuous.dynamics import Dynamics, Parts, Progress
from flows.functorch import constants, transforming
from flows.threads import threads_back, threads_for

if TYPE_CHECKING:
    from flows.continuous.solve import Solver


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
    from torchdiffeq._impl.odeint import SOLVERS  # here: it imports SciPy's solvers

    tableau = SOLVERS[name].tableau
    weights = (tableau.alpha, tableau.c_sol, tableau.c_error)
    nodes, solution, error = (tuple(values.tolist()) for values in weights)
    stages = tuple(tuple(row.tolist()) for row in tableau.beta)
    return Method(SOLVERS[name].order, nodes, stages, solution, error)


TABLEAUS: dict[str, Method] = {  # of fixed steps
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
    """A step to take: from a state, of a length, with stages at ``times``, a tensor or several.

    Before them is one of known ``rates`` where there are any. Where it ``closes`` the solve, a last
    stage at its end serves the error alone: no graph of it is kept.
    """

    state: State
    rates: tuple[Tensor, Rates] | None
    length: float | Tensor
    times: Tensor | Sequence[Tensor]
    closes: bool = False


class Attempt(NamedTuple):
    """Where a step ends, the rates of y and of q at its last stage, and its error.

    The error is in units of the tolerance, None where none is estimated.
    """

    end: State
    rates: tuple[Tensor, Rates]
    ratio: Tensor | None


SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0  # of torchdiffeq's control of steps


@dataclass(frozen=True)
class Stepper:
    """One step of a method, with an estimate of its error where the method has one."""

    method: Method
    norm: Norm
    rtol: float
    atol: float

    def factor(self, ratio: float) -> float:
        """The next step over the last, which had ``ratio`` of the error that it may have."""
        if ratio == 0:
            return GROW
        least = 1.0 if ratio < 1 else SHRINK
        return min(GROW, max(SAFETY * float(ratio ** (-1 / self.method.order)), least))

    def _scaled(self, values: Tensor, *sizes: Tensor) -> Tensor:
        """Values over the tolerance of numbers with the larger of the given sizes."""
        size = sizes[0].abs()
        for other in sizes[1:]:
            size = torch.maximum(size, other.abs())
        return values / size.mul_(self.rtol).add_(self.atol)

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
        ratio = self._ratio(step, end, of_y, of_q) if self.method.error else None
        return Attempt(end, (of_y[-1], of_q[-1]), ratio)

    @torch.no_grad()
    def _ratio(
        self, step: Step, end: State, of_y: Sequence[Tensor], of_q: Sequence[Rates]
    ) -> Tensor:
        def scaled(before: Tensor, after: Tensor, rates: Sequence[Tensor | None]) -> Tensor:
            if rates[0] is None:
                return before.new_zeros(())
            error = _sum(before.new_zeros(()), step.length, self.method.error, rates)
            return self._scaled(error, before, after)

        columns = zip(*of_q, strict=True)
        q = [scaled(*parts) for parts in zip(step.state.q, end.q, columns, strict=True)]
        return self.norm(scaled(step.state.y, end.y, of_y), q)

    @torch.no_grad()
    def first_step(
        self, rate: Rate, state: State, rates: tuple[Tensor, Rates], now: Tensor, way: float
    ) -> float:
        """Hairer, Nørsett and Wanner's choice, Solving ODEs I, section II.4: one evaluation."""
        of_y, of_q = rates

        def size(y: Tensor, q: Rates) -> Tensor:
            parts = [
                before.new_zeros(()) if value is None else self._scaled(value, before)
                for value, before in zip(q, state.q, strict=True)
            ]
            return self.norm(self._scaled(y, state.y), parts)

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
    total, writable = start, False
    for weight, k in zip(weights, rates, strict=False):
        if not weight or k is None:
            continue
        if isinstance(h, Tensor):
            total = total + k * (h * weight)
        elif writable:
            total.add_(k, alpha=h * weight)
        else:
            total = torch.add(total, k, alpha=h * weight)
            writable = not (torch.is_grad_enabled() or transforming())  # then it may be written to
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
    ) -> tuple[float | Tensor, Tensor | Sequence[Tensor]]:
        """The length of a step from t, and the times of its stages at ``nodes``.

        ``shares``, from 0 to 1, say how the step's start and end move with the end of the solve.
        """
        at = [t + node * h for node in nodes]
        times = torch.tensor(at, dtype=self.first.dtype, device=self.first.device)
        if not self.moving:
            return h, times
        share, more = shares[0], shares[1] - shares[0]
        moved = [
            time + self._shift + (share + node * more) * self._growth
            for time, node in zip(times, nodes, strict=True)
        ]
        return (h + more * self._growth if more else h), moved


Take = Callable[[Step], Attempt]  # as `Stepper.attempt` does, or compiled


def fixed(
    clock: Clock, progress: Progress, method: Method, take: Take, state: State, steps: int
) -> State:
    """The state at the end, after equal steps."""
    h = (clock.end - clock.start) / steps
    for n in range(steps):
        t, shares = clock.start + n * h, (n / steps, (n + 1) / steps)
        progress.check_step(t, abs(h))
        progress.check_state(t, (state.y, *state.q))
        length, times = clock.step(t, h, (0.0, *method.nodes), shares)
        state = take(Step(state, None, length, times)).end
    return state


def adaptive(
    clock: Clock,
    progress: Progress,
    stepper: Stepper,
    take: Take,
    rate: Rate,
    state: State,
    first: float | None,
) -> State:
    """The state at the end, by steps with errors within the tolerance, the last to land there.

    torchdiffeq's heuristic chooses the ``first`` step where it is None.
    """
    t, way = clock.start, math.copysign(1.0, clock.end - clock.start)
    rates = rate(clock.first, state.y)
    dt = first or stepper.first_step(rate, state, rates, clock.first, way)
    while t != clock.end:
        progress.check_step(t, dt)
        lands = way * t + dt >= way * clock.end
        h = clock.end - t if lands else way * dt
        length, times = clock.step(t, h, stepper.method.nodes, (0.0, float(lands)))
        attempt = take(Step(state, rates, length, times, lands))
        ratio = float(attempt.ratio)  # type: ignore[arg-type]  # estimated, as the method is adaptive
        progress.count_step(ratio <= 1)
        if math.isnan(ratio):  # a step that went too far, or a field that is not finite here
            dt = abs(h) * SHRINK if bool(torch.isfinite(rates[0]).all()) else 0.0
            continue
        dt = abs(h) * stepper.factor(ratio)
        if ratio <= 1:
            t = clock.end if lands else t + h
            state, rates = attempt.end, attempt.rates
    return state


class Reached(NamedTuple):
    """Where steps have led, in tensors: times and lengths are in float64."""

    t: Tensor
    dt: Tensor  # the length to try next
    landed: Tensor
    state: State
    rates: tuple[Tensor, Rates]
    accepted: Tensor
    attempts: Tensor

    def going(self, limit: int) -> Tensor:
        """Whether another step follows."""
        return ~self.landed & (self.t.abs() + self.dt > self.t.abs()) & (self.attempts < limit)

    def advanced(self, end: Tensor, way: float, stepper: Stepper, rate: Rate) -> Reached:
        """The same after one more attempt, chosen as `adaptive` does."""
        method = stepper.method
        lands = way * self.t + self.dt >= way * end
        h = torch.where(lands, end - self.t, way * self.dt)
        times = [(self.t + node * h).to(self.state.y) for node in method.nodes]
        attempt = stepper.attempt(rate, Step(self.state, self.rates, h.to(self.state.y), times))
        ratio = attempt.ratio.to(h)  # type: ignore[union-attr]  # estimated, as the method is adaptive
        least = torch.where(ratio < 1, 1.0, SHRINK)
        factor = (SAFETY * ratio ** (-1 / method.order)).maximum(least)
        broken = torch.where(torch.isfinite(self.rates[0]).all(), SHRINK, 0.0)
        dt = h.abs() * torch.where(ratio.isnan(), broken, factor.clamp(max=GROW))
        accepted = ratio <= 1

        def chosen(after: Tensor | None, before: Tensor) -> Tensor | None:
            return after if after is None else torch.where(accepted, after, before)

        reached = torch.where(lands, end, self.t + h), attempt.end, attempt.rates
        t, state, rates = tree_map(chosen, reached, (self.t, self.state, self.rates))
        counts = self.accepted + accepted, self.attempts + 1
        return Reached(t, dt, accepted & lands, state, rates, *counts)


def solve(
    solver: Solver, dynamics: Dynamics, x: Tensor, context: Parts, span: Pair, by_adjoint: bool
) -> Parts:
    """x and its integrals at the second of two times, with a graph where gradients are enabled.

    ``by_adjoint`` makes it one node of the graph, which solves backward in time.
    """
    if by_adjoint:
        inputs = (*span, x, *context, *dynamics.parameters)
        return _Adjoint.apply(solver, dynamics, len(context), *inputs)

    def rate(t: Tensor, x: Tensor) -> tuple[Tensor, Rates]:
        dx, *rates = dynamics(t, x, *context)
        return dx, tuple(rates)

    first = State(x, tuple(x.new_zeros(len(x)) for _ in range(dynamics.integrals)))
    steps = dynamics.compiled and dynamics.compiled.steps()
    y, q = _run(solver, solver.norm, dynamics, rate, first, span, steps)
    threads_back(len(x) * dynamics.weights, (y, *q))
    return y, *q


def _run(
    solver: Solver, norm: Norm, dynamics: Dynamics, rate: Rate, state: State, span: Pair, steps: Any
) -> State:
    """The state at the end of one solve; SolveError where it is not finite.

    ``steps`` take a Stepper's place where they are compiled, and else are None.
    """
    clock, progress = Clock(*span), dynamics.progress
    length = abs(clock.end - clock.start)
    method = TABLEAUS.get(solver.method) or embedded(solver.method)
    stepper, first = Stepper(method, norm, solver.rtol, solver.atol), solver.first(length)
    take = partial(steps.attempt, stepper) if steps else partial(stepper.attempt, rate)
    with threads_for(state.y.shape[-2] * dynamics.weights):
        if solver.fixed:
            state = fixed(clock, progress, method, take, state, solver.steps(length))
        elif end := steps and steps.solve(stepper, clock, first, state):
            state = end
        else:
            state = adaptive(clock, progress, stepper, take, rate, state, first)
    progress.check_state(clock.end, (state.y, *state.q))
    return state


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, solver: Solver, dynamics: Dynamics, contexts: int, *tensors: Tensor
    ) -> Parts:
        (start, end, x), inputs = tensors[:3], tensors[3:]
        result = solve(solver, dynamics, x, inputs[:contexts], (start, end), False)
        ctx.solver, ctx.dynamics, ctx.contexts = solver, dynamics, contexts
        ctx.save_for_backward(start, end, *inputs, *result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        start, end, *saved = ctx.saved_tensors
        count = len(saved) - len(gradients)  # how many are inputs, not results
        dynamics: Dynamics = ctx.dynamics
        dynamics.progress.begin_adjoint()
        context, parameters = saved[: ctx.contexts], saved[ctx.contexts : count]
        moving = any(ctx.needs_input_grad[3:5])
        adjoint = _Augmented(ctx.solver, dynamics, context, parameters, moving, gradients)
        before, of_end = adjoint.state(end, saved[count:])
        compiled = dynamics.compiled
        steps = compiled and compiled.adjoint(adjoint.moving, tuple(adjoint.of_integrals))
        way = end, start
        after = _run(ctx.solver, adjoint.norm, dynamics, adjoint.rate, before, way, steps)
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
            norms.append((rows / constants([size**0.5 for size in self.sizes], rows)).amax())
        return torch.stack(norms).amax()


@dataclass
class _Augmented:
    """The adjoint of a solve: y is x and the gradient of x, q all that is integrated beside them.

    That is the integrals of the solve, their gradients (constant), the gradient of the time where
    it is ``moving``, those of the context, and those of all parameters in a row.
    Chen et al., Neural Ordinary Differential Equations, 2018, arXiv:1806.07366, appendix C.
    """

    solver: Solver
    dynamics: Dynamics
    context: Sequence[Tensor]
    parameters: Sequence[Tensor]
    moving: bool
    gradients: Parts

    def __post_init__(self) -> None:
        self.of_x, *self.of_integrals = self.gradients
        self.sizes = [p.numel() for p in self.parameters]
        steering = () if self.solver.gradient == "seminorm" else tuple(self.sizes)
        self.norm = _Norm(self.solver.norm, len(self.of_integrals), self.moving, steering)

    def state(self, end: Tensor, result: Parts) -> tuple[State, Tensor | None]:
        """The adjoint's state at the end of the solve, and the gradient of the end time."""
        x, *integrals = result
        of_end = None
        if self.moving:
            rates = self.dynamics(end, x, *self.context)
            products = zip(rates, self.gradients, strict=True)
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
