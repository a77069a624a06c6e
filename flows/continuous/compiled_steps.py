"""Evaluations of a field as functions of tensors alone; they and their steps by torch.compile."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map_only

from flows.compiled import Functions, leaves, repeated
from flows.continuous.dynamics import Parts, Progress
from flows.continuous.native import Attempt, Clock, Rate, Rates, Reached, State, Step, Stepper
from flows.continuous.point import Point
from flows.continuous.regularizers import REGULARIZERS
from flows.continuous.trace import Probes, Trace

# what all evaluations of a solve share: context, probes of the trace and of the penalties
Fixed = tuple[Tensor | None, Probes | None, Probes | None]


@dataclass(frozen=True)
class Evaluation:
    """dx/dt, the ``trace`` unless None, and the penalties of ``weights`` by name."""

    trace: Trace | None
    weights: tuple[tuple[str, float], ...] = ()

    def __call__(self, field: nn.Module, t: Tensor, x: Tensor, *fixed: Any) -> Parts:
        """(N, D), (N,) and, of penalties, (N,) once more; ``fixed`` as in `Fixed`."""
        context, probes, beside = fixed
        point = Point(field, t, x, context)
        if self.trace is None:
            return (point.dx,)
        dx, total = self.trace.rate(point, probes)
        if not self.weights:
            return dx, total
        terms = [w * REGULARIZERS[name](point, beside or ()) for name, w in self.weights]
        return dx, total, torch.stack(terms).sum(0)


@dataclass(frozen=True)
class Compiled:
    """One solve by functions that are compiled: times and lengths of its steps are tensors."""

    functions: Functions
    evaluation: Evaluation
    field: nn.Module
    fixed: Fixed
    progress: Progress

    def rate(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Parts:
        """dx/dt and the rates of the integrals, with their graph where gradients are enabled."""
        if torch.is_grad_enabled():  # as for steps
            x = _differentiable(x)
        kind = (self.evaluation, type(self.field))
        arguments = (self.evaluation, self.field, t, x.contiguous(), context, *self.fixed[1:])
        return self.functions(rate_of_an_ode, kind, (t[None], x, context), *arguments)

    def steps(self) -> Steps:
        """Steps of the ODE, which have the graph of all stages where gradients are enabled."""
        return Steps(self, _rate_of_ode, self.field)

    def adjoint(self, moving: bool, of_integrals: Parts) -> Steps:
        """Steps of the adjoint, ``moving`` where times have a gradient too."""
        key, modules = (self.evaluation, self.field), self.functions.modules
        if key not in modules:  # one for all solves, or each would be compiled for anew
            modules[key] = _Evaluated(*key)
        return Steps(self, _rate_of_adjoint, modules[key], (moving, of_integrals))


@dataclass(frozen=True)
class Steps:
    """Steps of a state by functions that are compiled, whose rate is ``rate_of`` of constants."""

    compiled: Compiled
    rate_of: Callable[..., Rate]
    module: nn.Module
    more: tuple[Any, ...] = ()

    def attempt(self, stepper: Stepper, step: Step) -> Attempt:
        """As `Stepper.attempt`."""
        state, rates = step.state, step.rates
        if torch.is_grad_enabled():  # else the first step would be a function of its own
            state = tree_map_only(Tensor, _differentiable, state)
        if rates is not None:
            of_q = tuple(rate if rate is None else rate.contiguous() for rate in rates[1])
            rates = rates[0].contiguous(), of_q
        length = torch.as_tensor(step.length, dtype=state.y.dtype, device=state.y.device)
        times = step.times if isinstance(step.times, Tensor) else torch.stack([*step.times])
        arguments = (state, rates, length, times)
        attempt: Attempt = self._call(self.compiled.functions, one_step, stepper, *arguments)
        self._count(attempt.rates, len(step.times))
        return attempt

    def solve(
        self, stepper: Stepper, clock: Clock, first_step: float | None, state: State
    ) -> State | None:
        """All steps by one native function, or None: then each step is taken by itself.

        None is for a graph of each step, a first step by the heuristic, and a solve that fails.
        """
        if torch.is_grad_enabled() or first_step is None:
            return None
        progress, native = self.compiled.progress, self.compiled.functions.native
        way = math.copysign(1.0, clock.end - clock.start)
        times = torch.tensor([clock.start, clock.end, first_step], dtype=torch.float64)
        inputs = (state, times, progress.max_steps, way)
        end: Reached | None = self._call(native, all_steps, stepper, *inputs)
        if end is None or not end.landed:
            return None
        attempts, accepted = int(end.attempts), int(end.accepted)
        progress.steps += attempts
        self._count(end.rates, 1 + attempts * len(stepper.method.nodes))
        for number in range(attempts):
            progress.count_step(number < accepted)
        return end.state

    def _call(self, call: Any, function: Callable[..., Any], stepper: Stepper, *step: Any) -> Any:
        evaluation, fixed = self.compiled.evaluation, self.compiled.fixed
        tensors = [t for t in leaves((*step, fixed[:1]))[1] if t.dim()]
        settings = [value for value in step if isinstance(value, int | float)]
        place = (stepper, self.rate_of, evaluation, type(self.compiled.field), *self.more[:1])
        constants = (evaluation, self.module, fixed, *self.more)
        arguments = (stepper, self.rate_of, constants, *step)
        return call(function, (*place, *settings), tensors, *arguments)

    def _count(self, rates: tuple[Tensor, Rates], times: int) -> None:
        dx, of_q = rates
        traces: Any = of_q[:1] if self.compiled.evaluation.trace is not None else ()
        of_x: Any = dx[0] if dx.dim() > 2 else dx  # an adjoint's are of x and its gradient
        self.compiled.progress.evaluated((of_x, *traces), times)


class _Evaluated(nn.Module):
    """An evaluation as a module, whose parameters `torch.func.functional_call` can replace."""

    def __init__(self, evaluation: Evaluation, field: nn.Module) -> None:
        super().__init__()
        self.evaluation, self.field = evaluation, field

    def forward(self, *arguments: Any) -> Parts:
        return self.evaluation(self.field, *arguments)


def _differentiable(part: Tensor) -> Tensor:
    return part if part.requires_grad else part.detach().requires_grad_()


def rate_of_an_ode(evaluation: Evaluation, field: nn.Module, *arguments: Any) -> Parts:
    """One evaluation, as one graph."""
    return evaluation(field, *arguments)


def one_step(stepper: Stepper, rate_of: Callable[..., Rate], constants: Any, *step: Any) -> Attempt:
    """One step, given by state, rates, length and times, as one graph."""
    state, rates, length, times = step
    return stepper.attempt(rate_of(*constants), Step(state, rates, length, times.unbind()))


def for_solve(field: Any) -> Any:
    """The field as one solve takes it: it may keep products of weights that no time changes."""
    return field.for_solve() if hasattr(field, "for_solve") else field


def all_steps(
    stepper: Stepper,
    rate_of: Callable[..., Rate],
    constants: Any,
    state: State,
    times: Tensor,
    limit: int,
    way: float,
) -> Reached:
    """Steps from the first to the second of ``times``, as one graph; the third is a step to try."""

    def again(reached: Reached, end: Tensor, *constants: Any) -> Reached:
        return reached.advanced(end, way, stepper, rate_of(*constants))

    evaluation, field, *more = constants
    constants = evaluation, for_solve(field), *more
    start, end, dt = times.unbind()
    rates = rate_of(*constants)(start.to(state.y), state.y)
    none = torch.zeros((), dtype=torch.int64)
    reached = Reached(start, dt, none > 0, state, rates, none, none)
    return repeated(again, lambda reached: reached.going(limit), reached, (end, *constants))


def _rate_of_ode(evaluation: Evaluation, field: nn.Module, fixed: Fixed) -> Rate:
    def rate(t: Tensor, x: Tensor) -> tuple[Tensor, Rates]:
        dx, *of_q = evaluation(field, t, x, *fixed)
        return dx, tuple(of_q)

    return rate


def _rate_of_adjoint(
    evaluation: Evaluation, module: nn.Module, fixed: Fixed, moving: bool, of_integrals: Parts
) -> Rate:
    """The rate of the adjoint's state, as `flows.continuous.native` has it."""
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    context, *probes = fixed
    contexts = [] if context is None else [context]

    def rate(t: Tensor, y: Tensor) -> tuple[Tensor, Rates]:
        def values(inputs: dict[str, Any]) -> Parts:
            at = inputs["t"][0] if moving else t
            arguments = (at, inputs["x"], *(inputs["contexts"] or [None]), *probes)
            return functional_call(module, inputs["parameters"], arguments)

        inputs = {"x": y[0], "t": [t] * moving, "contexts": contexts, "parameters": parameters}
        (dx, *of_q), pull = torch.func.vjp(values, inputs)  # type: ignore[misc]  # of no aux
        (of,) = pull((-y[1], *(-gradient for gradient in of_integrals)))
        beside_x = [*of["t"], *of["contexts"]]
        if parameters:
            beside_x.append(torch.cat([p.reshape(-1) for p in of["parameters"].values()]))
        return torch.stack([dx, of["x"]]), (*of_q, *(None for _ in of_q), *beside_x)

    return rate
