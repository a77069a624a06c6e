"""Evaluations of a field as functions of tensors alone; they and their steps by torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map_only

from flows.compiled import Functions
from flows.continuous import regularizers as penalty
from flows.continuous.dynamics import Parts, Progress
from flows.continuous.native import Attempt, Rates, Step, Stepper
from flows.continuous.point import Point
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
        return dx, total, penalty.weighted(dict(self.weights), point, beside or ())


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

    def attempt(self, stepper: Stepper, step: Step) -> Attempt:
        """As `Stepper.attempt`, with the graph of all stages."""
        if torch.is_grad_enabled():  # else the first step would be a function of its own
            step = step._replace(state=tree_map_only(Tensor, _differentiable, step.state))
        return self._take(step_of_an_ode, self.field, stepper, step)

    def attempt_adjoint(
        self, moving: bool, of_integrals: Sequence[Tensor], stepper: Stepper, step: Step
    ) -> Attempt:
        """The same for a step of the adjoint, ``moving`` where times have a gradient too."""
        key, modules = (self.evaluation, self.field), self.functions.modules
        if key not in modules:  # one for all solves, or each would be compiled for anew
            modules[key] = _Evaluated(*key)
        return self._take(
            step_of_an_adjoint, modules[key], stepper, step, moving, tuple(of_integrals)
        )

    def _take(
        self,
        function: Callable[..., Attempt],
        module: nn.Module,
        stepper: Stepper,
        step: Step,
        *more: Any,
    ) -> Attempt:
        (y, q), rates = step.state, step.rates
        if rates is not None:
            of_q = tuple(rate if rate is None else rate.contiguous() for rate in rates[1])
            rates = rates[0].contiguous(), of_q
        tensors = (y, *q, *((rates[0], *rates[1]) if rates else ()), self.fixed[0])
        rows = [t for t in tensors if t is not None and t.dim()]
        length = torch.as_tensor(step.length, dtype=y.dtype, device=y.device)
        times = step.times if isinstance(step.times, Tensor) else torch.stack([*step.times])
        arguments = (step.state, rates, length, times)
        place = (stepper, self.evaluation, type(self.field), *more[:1])
        constants = (stepper, self.evaluation, module, self.fixed, *more)
        attempt: Attempt = self.functions(function, place, rows, *constants, *arguments)
        dx, ends = attempt.rates
        traces = ends[:1] if self.evaluation.trace is not None else ()
        values = (dx[0] if dx.dim() > 2 else dx, *traces)  # an adjoint's are x and its gradient
        self.progress.evaluated(values, len(step.times))  # type: ignore[arg-type]  # traces have rates
        return attempt


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


def step_of_an_ode(
    stepper: Stepper, evaluation: Evaluation, field: nn.Module, fixed: Fixed, *step: Any
) -> Attempt:
    """One step, given by state, rates, length and times, as one graph."""

    def rate(t: Tensor, x: Tensor) -> tuple[Tensor, Rates]:
        dx, *of_q = evaluation(field, t, x, *fixed)
        return dx, tuple(of_q)

    state, rates, length, times = step
    return stepper.attempt(rate, Step(state, rates, length, times.unbind()))


def step_of_an_adjoint(
    stepper: Stepper,
    evaluation: Evaluation,
    module: nn.Module,
    fixed: Fixed,
    moving: bool,
    of_integrals: Parts,
    *step: Any,
) -> Attempt:
    """One step of the adjoint's state, as `flows.continuous.native` has it, as one graph."""
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

    state, rates, length, times = step
    return stepper.attempt(rate, Step(state, rates, length, times.unbind()))
