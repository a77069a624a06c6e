"""Rows on the density: its log-determinant, inverse, mass, samples, loss and gradients."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any

import scipy  # whose statistics take long to import
import torch
from torch import Tensor

from flows.bijection import StandardNormal, parts, to_data, to_noise
from flows.conformance.subject import LOOSEST, ONCE, Finding, NotApplicable, Row, Subject, jitter
from flows.flow import Flow
from flows.preprocessing import Logit, Preprocessing
from flows.streams import Stream

FEW = 8  # points, for gradients
DIRECTIONS = 8  # of the context, where one may miss that it is rounded
POINTS = 32  # for Jacobians; in float64 half as many in the tails too
ESTIMATES = 64  # of a random log-determinant
STANDARD_ERRORS = 4.0  # largest error of their mean
WRONG = 1e-6  # nats of one part
TAILS = 10.0  # distance of the tails, relative to the points
SAMPLES = 2000
UNRESOLVED = 0.05  # of mass, between a grid and half of its points
GRIDS = {1: (1001, 4001), 2: (91, 181)}  # points a side, the first where it is enough
FINE = {dim: sides[1:] for dim, sides in GRIDS.items()}
HOPELESS = 1e3  # mass by the coarse grid that no finer one brings to one
CONTEXTS = 3  # at which the mass is integrated, and given each of which alone samples are drawn
LEVEL = 1e-4  # of all statistics of samples together


def jacobians(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian of every row, (N, D, D), by one backward pass a column."""
    x = x.clone().requires_grad_()
    y = function(x)
    parts = [torch.autograd.grad(y[:, k].sum(), x, retain_graph=True)[0] for k in range(y.shape[1])]
    return torch.stack(parts, 1)


def _reference(subject: Subject, direction: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log |det| of the Jacobian in float64, and by how much rounding may have it wrong, both (N,).

    One matrix at a time; an error ε‖J‖ in the matrix is one of at most D ε cond(J) in log |det|.
    Then the matrices, (N, D, D).
    """
    context = subject.contexts(len(x))
    move = getattr(subject.reference.transform, direction)
    context = None if context is None else context.double()
    matrices = jacobians(lambda x: move(x, context)[0], x.double())
    ladj = torch.stack([torch.linalg.slogdet(matrix)[1] for matrix in matrices])
    condition = torch.stack([torch.linalg.cond(matrix) for matrix in matrices])
    return ladj, subject.dim * torch.finfo(torch.float64).eps * condition, matrices


def log_determinant(subject: Subject, direction: str = "forward") -> Finding:
    """Largest difference, in nats, from slogdet of the autograd Jacobian of a direction."""
    x = subject.x[:POINTS]
    if subject.dtype == torch.float64:
        x = torch.cat([x, TAILS * x[::2]])
    ladj = getattr(subject.flow.transform, direction)(x, subject.contexts(len(x)))[1].detach()
    reference, rounding, matrices = _reference(subject, direction, x)
    usable = ~(rounding > LOOSEST)  # so that a NaN fails
    if not bool(usable.any()):
        raise NotApplicable("its Jacobian is too ill-conditioned for a reference")
    error = (ladj - reference).abs()[usable]
    bounds = rounding[usable].clamp(min=subject.bound(1e-8, 1e-3))
    worst = int((error / bounds).argmax())
    value, bound = error[worst].item(), bounds[worst].item()
    note = ""
    if not value <= bound:
        note = _missing(reference - ladj, matrices) or _in_a_part(subject, direction, x)
    return Finding(value, bound, note)


def _in_a_part(subject: Subject, direction: str, x: Tensor) -> str:
    """Name the first part of a composed transform that is wrong by itself, and its column."""
    run, context = parts(subject.reference.transform), subject.contexts(len(x))
    x, context = x.double(), None if context is None else context.double()
    for part in run if direction == "forward" else run[::-1]:
        alone = replace(subject, reference=Flow(part, subject.dim))
        reference, _, matrices = _reference(alone, direction, x)
        image, ladj = getattr(part, direction)(x, context)
        error = reference - ladj.detach()
        if len(run) > 1 and not bool(error.abs().max() < WRONG):
            where = f"in part {run.index(part)} (the first is 0), {type(part).__name__}"
            return f"{where}: {_missing(error, matrices)}".removesuffix(": ")
        x = image.detach()
    return ""


def _missing(error: Tensor, matrices: Tensor) -> str:
    """Name the column whose term of log |det| (N, D, D), or twice it, is an error (N,).

    Within a tenth: of triangular matrices the terms are the logarithms of the diagonal.
    """
    terms = matrices.diagonal(dim1=1, dim2=2).abs().log()
    for times, what in ((1, "is missing"), (2, "has the wrong sign")):
        distance = (error[:, None] - times * terms).abs().mean(0) / error.abs().mean()
        if bool(distance.min() < 0.1):
            return f"most in column {int(distance.argmin())} (the first is 0): its term {what}"
    return ""


def estimated_log_determinant(subject: Subject) -> Finding:
    """Standard errors between the mean of 64 estimates and slogdet, at the worst point."""
    if not subject.estimated:
        raise NotApplicable("its log-determinant is exact")
    x, context = subject.x[:POINTS], subject.contexts(POINTS)
    with torch.no_grad():
        many = [subject.own.using(noise=k).transform(x, context)[1] for k in range(ESTIMATES)]
    estimates = torch.stack(many).double()
    error = estimates.std(0) / ESTIMATES**0.5 + subject.bound(1e-8, 1e-3, subject.own)
    off = (estimates.mean(0) - _reference(subject, "forward", x)[0]).abs()
    return Finding((off / error).max().item(), STANDARD_ERRORS)


def round_trip(subject: Subject, there: str = "forward", scale: float = 1.0) -> Finding:
    """Error of the points that went there, back and there again, relative to the largest.

    Where a map is all but flat no inverse finds the point again, but its image it must: so each
    row's error is that of the point or that of its image, whichever is less. The nats by which the
    log-determinants of both ways differ count in float64; elsewhere rounding moves what is steep.
    """
    back = "inverse" if there == "forward" else "forward"
    x, transform = scale * subject.x, subject.flow.transform
    context = subject.contexts(len(x))
    y, _ = getattr(transform, there)(x, context)
    again, opposite = getattr(transform, back)(y, context)
    image, ladj = getattr(transform, there)(again, context)
    error = torch.minimum(_relative(again, x), _relative(image, y)).max().item()
    bound = subject.bound(1e-7, 2e-3)
    if subject.dtype != torch.float64:
        return Finding(error, bound)
    nats = (ladj + opposite).abs().max().item()
    return Finding(max(error, nats), bound, f"points off by {error:.1e}, nats by {nats:.1e}")


def _relative(y: Tensor, x: Tensor) -> Tensor:
    """Error of each row relative to the size of the largest: (N, D), (N, D) -> (N,)."""
    return (y - x).abs().amax(1) / max(1.0, x.abs().max().item())


def images_alone(subject: Subject) -> Finding:
    """Relative error of noise and of data that come without a log-determinant, the larger."""
    transform: Any = subject.flow.transform
    run = parts(transform)
    if not any(hasattr(part, "to_noise") or hasattr(part, "to_data") for part in run):
        raise NotApplicable("it computes all of them with their log-determinants")
    x, context = subject.x, subject.contexts(len(subject.x))
    z, _ = transform(x, context)
    data, _ = transform.inverse(z, context)
    errors = (_relative(to_noise(run, x, context), z), _relative(to_data(run, z, context), data))
    return Finding(torch.stack(errors).max().item(), subject.bound(1e-7, 2e-3))


def mass_at_contexts(subject: Subject) -> Finding:
    """How far the integral of the density is from one, at the worst of a few contexts."""
    subjects, findings, unresolved = [subject], [], None
    if subject.context is not None:
        contexts = subject.context[:CONTEXTS].unique(dim=0)
        subjects = [replace(subject, context=context[None]) for context in contexts]
    for part in subjects:
        try:
            findings.append(total_mass(replace(part, flow=part.at_many), GRIDS))
        except NotApplicable as reason:
            unresolved = reason
    if not findings and unresolved is not None:
        raise unresolved
    return max(findings, key=lambda finding: finding.value / finding.bound)


def total_mass(subject: Subject, grids: Mapping[int, Sequence[int]] = FINE) -> Finding:
    """How far the integral of the density is from one, by a grid over the samples' reach.

    The grid is uniform in asinh of the distance from the median, so that heavy tails fit, and the
    first of ``grids`` of which half of the points agree. The bound allows for it, by twice as much
    as half of its points would change the mass.
    """
    if subject.dim not in grids:
        raise NotApplicable("by quadrature for D up to 2; see log_prob of samples")
    bound = subject.bound(1e-3, 1e-3)
    for side in grids[subject.dim]:
        mass, half, edges = _masses(subject, side)
        slack = 2 * abs(mass - half) + edges
        if slack < 0.5 * bound or not mass < HOPELESS:
            break
    if abs(mass - half) > UNRESOLVED:
        raise NotApplicable(f"unresolved by a grid: {mass:.3g}, or {half:.3g} by half of it")
    return Finding(abs(mass - 1), bound + slack)


@torch.no_grad()
def _masses(subject: Subject, side: int) -> tuple[float, float, float]:
    """Mass by a grid of ``side`` points a side, by half of them, and at the edge of a support."""
    context = subject.contexts(1)
    samples = subject.flow.sample(SAMPLES, context)
    middle = samples.median(0).values
    centred = samples - middle
    spread = centred.abs().median(0).values
    reach = torch.asinh(2 * centred.abs().amax(0) / spread)
    t = [torch.linspace(-r, r, side, dtype=subject.dtype) for r in reach.tolist()]
    axes = [m + s * torch.sinh(u) for m, s, u in zip(middle, spread, t, strict=True)]
    cells = [s * torch.cosh(u) * (u[1] - u[0]) for s, u in zip(spread, t, strict=True)]
    points = torch.cartesian_prod(*axes).reshape(-1, subject.dim)
    density = torch.cat([subject.flow.log_prob(p, context).exp() for p in points.split(10_000)])
    areas = torch.cartesian_prod(*cells).reshape(-1, subject.dim).prod(1)
    masses = (density * areas).reshape([side] * subject.dim)
    coarse = masses[(slice(None, None, 2),) * subject.dim].sum().item() * 2**subject.dim
    edges = UNRESOLVED if bool((density == 0).any()) else 0.0  # of a support, which no grid meets
    return masses.sum().item(), coarse, edges


def log_prob_of_samples(subject: Subject) -> Finding:
    """log_prob of samples against the base density less the inverse's log-determinant."""
    context = subject.contexts(64)
    x, log_prob = subject.flow.rsample_and_log_prob(64, context)
    error = (subject.flow.log_prob(x, context) - log_prob).abs().max().item()
    return Finding(error, subject.bound(1e-7, 5e-3))


def mass_outside(subject: Subject) -> Finding:
    """Share of samples outside of a column's bounds, the largest of those that a `Logit` maps.

    It takes a wider interval to the line, and so leaves some mass there. The bound is one half: the
    normal density with mean and variance of any data between two bounds has less outside of them,
    Bhatia and Davis, A better bound on the variance, 2000.
    """
    steps = list(takewhile(lambda p: isinstance(p, Preprocessing), parts(subject.flow.transform)))
    if not any(isinstance(step, Logit) and bool(step.active.any()) for step in steps):
        raise NotApplicable("no logit precedes it, whose columns have bounds")
    x, shares = subject.at_many.sample(SAMPLES, subject.contexts(SAMPLES)), []
    for step in steps:
        shares += [step.outside(x).double().mean(0)] if isinstance(step, Logit) else []
        x, _ = step(x)
    share = torch.cat(shares)
    return Finding(share.max().item(), 0.5, f"{share.mean().item():.1e} over all bounded columns")


def samples_and_density(subject: Subject) -> Finding:
    """Whether the noise of samples is distributed as the base density.

    For N(0, I) Kolmogorov's distance from fresh normal noise times √(n/2), the largest over the
    columns and the radius, against the critical value at a level of 1e-4 for all together. For
    another base by Stein's identities E[s] = 0 and E[z sᵀ] = -I with s = ∇ log p of the base:
    the largest deviation in standard errors, at the same level. With contexts, given all of them in
    turn and given each of `CONTEXTS` alone, since errors may cancel over contexts.
    """
    flow, contexts = subject.at_many, subject.contexts(SAMPLES)
    batches: list[Tensor | None] = [contexts]
    if contexts is not None:
        batches += [alone.expand(SAMPLES // CONTEXTS, -1) for alone in contexts[:CONTEXTS, None]]
    with torch.no_grad():
        counts = [SAMPLES if context is None else len(context) for context in batches]
        samples = map(flow.sample, counts, batches)
        noises = [flow.to_noise(x, context) for x, context in zip(samples, batches, strict=True)]
    normal = isinstance(flow.base, StandardNormal)
    values = [(_distances if normal else _deviations)(flow, noise) for noise in noises]
    share = 0.5 * LEVEL / sum(map(len, values))
    quantile = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - share))
    critical = (-0.5 * torch.log(torch.tensor(share))).sqrt() if normal else quantile
    return Finding(torch.cat(values).max().item(), critical.item())


def _distances(flow: Flow, noise: Tensor) -> Tensor:
    """Kolmogorov's distances of columns and radius from normal noise, times √(n/2), (D + 1,)."""
    fresh = torch.randn_like(noise)
    pairs = [(noise[:, k], fresh[:, k]) for k in range(noise.shape[1])]
    pairs.append((noise.square().sum(1), fresh.square().sum(1)))
    scale = (len(noise) / 2) ** 0.5
    distances = [scipy.stats.ks_2samp(a, b, method="asymp").statistic for a, b in pairs]
    return scale * torch.tensor(distances, dtype=noise.dtype)


def _deviations(flow: Flow, noise: Tensor) -> Tensor:
    """Deviations of noise from Stein's identities of the base, in standard errors, (D + D²,)."""
    if bool(torch.isinf(flow.base.log_prob(torch.cat([100 * noise, -100 * noise]))).any()):
        raise NotApplicable("the support of its base density has an edge")
    noise.requires_grad_()
    log_prob = flow.base.log_prob(noise)
    (score,) = torch.autograd.grad(log_prob.sum(), noise)
    identity = torch.eye(noise.shape[1], dtype=noise.dtype)
    products = noise.detach()[:, :, None] * score[:, None, :] + identity
    terms = torch.cat([score, products.flatten(1)], 1)
    errors = (terms.std(0) / len(noise) ** 0.5).clamp(min=1e-12)
    return terms.mean(0).abs() / errors


def _against_differences(
    subject: Subject, objective: Callable[[], Tensor], tensors: dict[str, Tensor], times: int = 1
) -> Finding:
    """The largest relative error of a gradient along ``times`` random directions of all tensors.

    If it is beyond the bound, that of one tensor that is wrong, which is found by halves.
    Central differences, less what a step of twice the length changes in them: that much they are
    off by themselves. The step is larger where an adaptive solver makes the objective rough.
    """
    step = max(1e-6, 10 * subject.tolerance**0.5)
    theta = {name: t for name, t in tensors.items() if t.numel() and t.requires_grad}
    if not theta:
        raise NotApplicable("it has no parameters")
    value = objective()
    gradients: Sequence[Tensor | None] = [None] * len(theta)
    if value.requires_grad:
        gradients = torch.autograd.grad(value, list(theta.values()), allow_unused=True)
    gradient_of = dict(zip(theta, gradients, strict=True))

    def error_of(*names: str) -> float:
        directions = {name: torch.randn_like(theta[name]) for name in names}
        directions = {name: d / d.norm() for name, d in directions.items()}
        moves = [(theta[name], d) for name, d in directions.items()]
        near, far = (_difference(objective, moves, k * step) for k in (1, 2))
        slopes = [(g * d).sum() for n, d in directions.items() if (g := gradient_of[n]) is not None]
        slope = float(sum(slopes))
        return (abs(slope - near) - abs(near - far)) / (1 + abs(near))

    bound = max(1e-5, min(1e6 * subject.tolerance, LOOSEST))
    errors = [error_of(*theta) for _ in range(times)]
    names, error = list(theta), max(errors, key=lambda error: math.inf if error != error else error)
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


def gradient_of_log_prob(subject: Subject, of: str) -> Finding:
    """Error of log_prob's gradient for "x", "the context" or the flow's "parameters".

    Of a weighted sum, against central differences, relative to one and the slope. The note names a
    parameter that is wrong.
    """
    x, context, times = subject.x[:FEW].clone(), subject.contexts(FEW), 1
    tensors: dict[str, Tensor] = dict(subject.flow.named_parameters())
    if of == "x":
        tensors = {"x": x.requires_grad_()}
    elif of == "the context":
        context, times = subject.needed_contexts(FEW).requires_grad_(), DIRECTIONS
        tensors = {"context": context}
    weights = torch.randn_like(x[:, 0])

    def objective() -> Tensor:
        return (subject.flow.log_prob(x, context) * weights).sum()

    return _against_differences(subject, objective, tensors, times)


def gradient_of_samples(subject: Subject) -> Finding:
    """Error of gradients of samples and log-densities at fixed noise, for all tensors."""
    weights = torch.randn(FEW, subject.dim + 1, dtype=subject.dtype)
    context = subject.contexts(FEW)

    def objective() -> Tensor:
        with Stream(subject.seed):
            x, log_prob = subject.flow.rsample_and_log_prob(FEW, context)
        return (torch.cat([x, log_prob[:, None]], 1) * weights).sum()

    tensors: dict[str, Tensor] = dict(subject.flow.named_parameters())
    if context is not None:
        tensors["context"] = context.requires_grad_()
    try:
        return _against_differences(subject, objective, tensors)
    except NotImplementedError as error:
        raise NotApplicable(f"its samples have no gradient: {error}") from error


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
    Row("log-determinant", log_determinant, graph=True),
    Row("inverse log-determinant", partial(log_determinant, direction="inverse"), graph=True),
    Row("estimated log-determinant", estimated_log_determinant, graph=True),
    Row("round trip from data", round_trip),
    Row("round trip from noise", partial(round_trip, there="inverse")),
    Row("images alone", images_alone),
    Row("round trip in the tails", partial(round_trip, scale=TAILS)),
    Row("total mass", mass_at_contexts, ONCE),
    Row("log_prob of samples", log_prob_of_samples),
    Row("mass outside the support", mass_outside, ONCE),
    Row("samples and density", samples_and_density, ONCE, graph=True),
    *(
        Row(f"gradient for {of}", partial(gradient_of_log_prob, of=of), ONCE, graph=True)
        for of in ("x", "the context", "parameters")
    ),
    Row("gradient of samples", gradient_of_samples, ONCE, graph=True),
    Row("loss", loss, ONCE),
    Row("parameters without gradient", parameters_without_gradient, ONCE, graph=True),
)
