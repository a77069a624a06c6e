"""Rows on the loss, and on gradients: correct, and present for every trainable tensor."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from flows.conformance.subject import (
    LOOSEST,
    ONCE,
    Finding,
    NotApplicable,
    Row,
    Subject,
    jitter,
    tolerance_of,
)
from flows.flow import Flow

POINTS = 8
DIRECTIONS = 8  # of the context, where one may miss that it is rounded


def _against_differences(
    subject: Subject,
    objective: Callable[[], Tensor],
    tensors: Mapping[str, Tensor],
    directions: int = 1,
) -> Finding:
    """The largest relative error of a gradient along random directions of all tensors.

    If it is beyond the bound, that of one tensor that is wrong, which is found by halves.
    Central differences, less what a step of twice the length changes in them: that much they are
    off by themselves. The step is larger where an adaptive solver makes the objective rough.
    """
    step = max(1e-6, 10 * tolerance_of(subject.flow) ** 0.5)
    named = {name: t for name, t in tensors.items() if t.numel() and t.requires_grad}
    if not named:
        raise NotApplicable("it has no parameters")
    value = objective()
    gradients: Sequence[Tensor | None] = [None] * len(named)
    if value.requires_grad:
        gradients = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    gradient_of = dict(zip(named, gradients, strict=True))

    def error_of(*names: str) -> float:
        directions = {name: torch.randn_like(named[name]) for name in names}
        directions = {name: d / d.norm() for name, d in directions.items()}
        moves = [(named[name], d) for name, d in directions.items()]
        near, far = (_difference(objective, moves, k * step) for k in (1, 2))
        slopes = [(g * d).sum() for n, d in directions.items() if (g := gradient_of[n]) is not None]
        slope = float(sum(slopes))
        return (abs(slope - near) - abs(near - far)) / (1 + abs(near))

    bound = max(1e-5, min(1e6 * tolerance_of(subject.flow), LOOSEST))
    errors = [error_of(*named) for _ in range(directions)]
    names, error = list(named), max(errors, key=lambda error: math.inf if error != error else error)
    while not error <= bound and len(names) > 1:
        first, second = names[: len(names) // 2], names[len(names) // 2 :]
        names, error = first, error_of(*first)
        if error <= bound:
            names, error = second, error_of(*second)
    wrong = f"wrong for {names[0]}: differences have another slope"
    note = "all tensors along one direction" if error <= bound else wrong
    return Finding(max(error, 0.0), bound, note)


@torch.no_grad()
def _difference(
    objective: Callable[[], Tensor], moves: Sequence[tuple[Tensor, Tensor]], step: float
) -> float:
    """The slope of the objective, with every tensor moved along its direction."""
    before, values = [tensor.clone() for tensor, _ in moves], []
    for sign in (1, -1):
        for (tensor, direction), old in zip(moves, before, strict=True):
            tensor.copy_(old + sign * step * direction)
        values.append(objective().item())
    for (tensor, _), old in zip(moves, before, strict=True):
        tensor.copy_(old)
    return (values[0] - values[1]) / (2 * step)


def _of_log_prob(
    subject: Subject,
    x: Tensor,
    context: Tensor | None,
    tensors: Mapping[str, Tensor],
    directions: int = 1,
) -> Finding:
    """The gradient of a weighted sum of log_prob, for these tensors."""
    weights = torch.randn_like(x[:, 0])
    return _against_differences(
        subject, lambda: (subject.flow.log_prob(x, context) * weights).sum(), tensors, directions
    )


def gradient_for_x(subject: Subject) -> Finding:
    """Against central differences, relative to one and the slope."""
    x = subject.x[:POINTS].clone().requires_grad_()
    return _of_log_prob(subject, x, subject.contexts(POINTS), {"x": x})


def gradient_for_the_context(subject: Subject) -> Finding:
    """The same for what the density is conditioned on."""
    context = subject.needed_contexts(POINTS).requires_grad_()
    return _of_log_prob(subject, subject.x[:POINTS], context, {"context": context}, DIRECTIONS)


def gradient_for_parameters(subject: Subject) -> Finding:
    """Against central differences for every parameter; the note names the worst."""
    parameters = dict(subject.flow.named_parameters())
    return _of_log_prob(subject, subject.x[:POINTS], subject.contexts(POINTS), parameters)


def gradient_of_samples(subject: Subject) -> Finding:
    """Of samples and their log-densities at fixed noise, for parameters and the context."""
    weights = torch.randn(POINTS, subject.dim + 1, dtype=subject.dtype)
    context = subject.contexts(POINTS)

    def objective() -> Tensor:
        torch.manual_seed(subject.seed)
        x, log_prob = subject.flow.rsample_and_log_prob(POINTS, context)
        return (torch.cat([x, log_prob[:, None]], 1) * weights).sum()

    tensors: dict[str, Tensor] = dict(subject.flow.named_parameters())
    if context is not None:
        tensors["context"] = context.requires_grad_()
    try:
        return _against_differences(subject, objective, tensors)
    except NotImplementedError as error:
        raise NotApplicable(f"its samples have no gradient: {error}") from error


@torch.no_grad()
def loss(subject: Subject) -> Finding:
    """How far a loss of its own is from the mean of -log_prob, in nats."""
    flow = subject.flow
    if type(flow).loss is Flow.loss:
        raise NotApplicable("its loss is that of every Flow")
    if flow.objective != Flow.objective:
        raise NotApplicable(f"its objective is {flow.objective}")
    log_prob = flow.log_prob(subject.x, subject.context)
    difference = flow.loss(subject.x, subject.context) + log_prob.mean()
    return Finding(difference.abs().item(), subject.bound(1e-9, 1e-3))


def parameters_without_gradient(subject: Subject) -> Finding:
    """How many the loss does not reach, but for those that a module declares.

    On a copy whose parameters are moved a little, since nets that start at zero hide the rest. A
    module declares by ``structural_zeros``, names of its parameters that cannot have a gradient.
    """
    flow = copy.deepcopy(subject.own)
    if not any(p.requires_grad for p in flow.parameters()):
        raise NotApplicable("it has no parameters")
    jitter(flow, 0.01)
    flow.loss(subject.x, subject.context).backward()
    declared = {
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in flow.named_modules()
        for name in getattr(module, "structural_zeros", ())
    }
    missing = [
        name
        for name, p in flow.named_parameters()
        if p.requires_grad and p.numel() and name not in declared
        if p.grad is None or not bool(p.grad.abs().max() > 0)
    ]
    note = ", ".join(missing) or (f"declared: {', '.join(sorted(declared))}" if declared else "")
    return Finding(len(missing), 0, note)


rows = (
    Row("gradient for x", gradient_for_x, ONCE),
    Row("gradient for the context", gradient_for_the_context, ONCE),
    Row("gradient for parameters", gradient_for_parameters, ONCE),
    Row("gradient of samples", gradient_of_samples, ONCE),
    Row("loss", loss, ONCE),
    Row("parameters without gradient", parameters_without_gradient, ONCE),
)
