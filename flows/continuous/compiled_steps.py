"""Evaluations of a field as functions of tensors alone; they and their steps by torch.compile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from flows.compiled import Functions
from flows.continuous import regularizers as penalty
from flows.continuous.dynamics import Parts, Progress
from flows.continuous.point import Point
from flows.continuous.steps import Attempt, Rate, Rates, State, Stepper
from flows.continuous.trace import Probes, Trace


@dataclass(frozen=True)
class Evaluation:
    """dx/dt, the ``trace`` unless None, and the penalties of ``weights`` by name."""

    trace: Trace | None
    weights: tuple[tuple[str, float], ...] = ()

    def __call__(
        self,
        field: nn.Module,
        t: Tensor,
        x: Tensor,
        context: Tensor | None,
        probes: Probes | None,
        beside: Probes | None,
    ) -> Parts:
        """(N, D), (N,) and, of penalties, (N,) once more; ``beside`` are the penalties' probes."""
        point = Point(field, t, x, context)
        if self.trace is None:
            return (point.dx,)
        dx, total = self.trace.rate(point, probes)
        if not self.weights:
            return dx, total
        return dx, total, penalty.weighted(dict(self.weights), point, beside or ())


@dataclass(frozen=True)
class Compiled:
    """One solve: steps in place of `Stepper.attempt`, times and lengths tensors; and rates.

    Rates are those of the first evaluation, and of the adjoint's, whose products with Jacobians
    are the compiled backward pass.
    """

    functions: Functions
    evaluation: Evaluation
    field: nn.Module
    context: Tensor | None
    probes: Probes | None
    beside: Probes | None
    progress: Progress

    def __call__(
        self,
        stepper: Stepper,
        rate: Rate,
        state: State,
        rates: tuple[Tensor, Rates] | None,
        length: float | Tensor,
        times: Sequence[Tensor],
        closes: bool = False,
    ) -> Attempt:
        """As `Stepper.attempt`, with the graph of all stages; ``rate`` is compiled in its place."""
        if torch.is_grad_enabled():  # else the first step would be a function of its own
            state = State(_differentiable(state.y), tuple(map(_differentiable, state.q)))
        rates = tree_map_only(Tensor, torch.Tensor.contiguous, rates)
        if stepper.control is not None:  # one function for solves of any length
            stepper = replace(stepper, control=replace(stepper.control, first_step=None))
        place = (stepper, self.evaluation, type(self.field))
        step: Attempt = self.functions(
            step_of_an_ode,
            place,
            [leaf for leaf in tree_leaves((state, rates, self.context)) if leaf is not None],
            stepper,
            self.evaluation,
            self.field,
            state,
            rates,
            torch.as_tensor(length, dtype=state.y.dtype, device=state.y.device),
            torch.stack(list(times)),
            self.context,
            self.probes,
            self.beside,
        )
        dx, of_q = step.rates
        self.progress.evaluated((dx, *(g for g in of_q if g is not None)), len(times))
        return step

    def rate(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Parts:
        """dx/dt and the rates of the integrals, with their graph where gradients are enabled."""
        rates: Parts = self.functions(
            rate_of_an_ode,
            (self.evaluation, type(self.field)),
            (x, context),
            self.evaluation,
            self.field,
            t,
            x.contiguous(),
            context,
            self.probes,
            self.beside,
        )
        return rates


def _differentiable(part: Tensor) -> Tensor:
    return part if part.requires_grad else part.detach().requires_grad_()


def rate_of_an_ode(evaluation: Evaluation, field: nn.Module, *arguments: Any) -> Parts:
    """One evaluation, as one graph."""
    return evaluation(field, *arguments)


def step_of_an_ode(
    stepper: Stepper,
    evaluation: Evaluation,
    field: nn.Module,
    state: State,
    rates: tuple[Tensor, Rates] | None,
    length: Tensor,
    times: Tensor,
    context: Tensor | None,
    probes: Any,
    beside: Any,
) -> Attempt:
    """One step of the given length with stages at ``times``, as one graph."""

    def rate(t: Tensor, x: Tensor) -> tuple[Tensor, Rates]:
        dx, *of_q = evaluation(field, t, x, context, probes, beside)
        return dx, tuple(of_q)

    return stepper.attempt(rate, state, rates, length, times.unbind())
