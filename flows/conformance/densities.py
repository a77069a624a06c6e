"""Rows on the density: its log-determinant, inverse and mass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from flows.bijection import parts, to_data, to_noise
from flows.conformance.rows import ONCE, Finding, NotApplicable, Row, row
from flows.conformance.subject import LOOSEST, Subject

rows: list[Row] = []

POINTS = 32  # for Jacobians; in float64 half as many in the tails too
ESTIMATES = 64  # of a random log-determinant
STANDARD_ERRORS = 4.0  # largest error of their mean
TAILS = 10.0  # distance of the tails, relative to the points
SAMPLES = 2000
UNRESOLVED = 0.05  # of mass, between a grid and half of its points
GRID = {1: 4001, 2: 181}  # points a side
COARSE = {1: 1001, 2: 91}  # the same where it is enough
HOPELESS = 1e3  # mass by the coarse grid that no finer one brings to one
CONTEXTS = 3  # at which the mass is integrated


def jacobians(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian of every row, (N, D, D), by one backward pass a column."""
    x = x.clone().requires_grad_()
    y = function(x)
    parts = [torch.autograd.grad(y[:, k].sum(), x, retain_graph=True)[0] for k in range(y.shape[1])]
    return torch.stack(parts, 1)


def _reference(subject: Subject, direction: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """log |det| of the Jacobian in float64, and by how much rounding may have it wrong, both (N,).

    One matrix at a time; an error ε‖J‖ in the matrix is one of at most D ε cond(J) in log |det|.
    """
    context = subject.contexts(len(x))
    move = getattr(subject.reference.transform, direction)
    context = None if context is None else context.double()
    matrices = jacobians(lambda x: move(x, context)[0], x.double())
    ladj = torch.stack([torch.linalg.slogdet(matrix)[1] for matrix in matrices])
    condition = torch.stack([torch.linalg.cond(matrix) for matrix in matrices])
    return ladj, subject.dim * torch.finfo(torch.float64).eps * condition


def _log_determinant(subject: Subject, direction: str) -> Finding:
    x = subject.x[:POINTS]
    if subject.dtype == torch.float64:
        x = torch.cat([x, TAILS * x[::2]])
    ladj = getattr(subject.flow.transform, direction)(x, subject.contexts(len(x)))[1].detach()
    reference, rounding = _reference(subject, direction, x)
    usable = ~(rounding > LOOSEST)  # so that a NaN fails
    if not bool(usable.any()):
        raise NotApplicable("its Jacobian is too ill-conditioned for a reference")
    error = (ladj - reference).abs()[usable]
    bounds = rounding[usable].clamp(min=subject.bound(1e-8, 1e-3))
    worst = int((error / bounds).argmax())
    return Finding(error[worst].item(), bounds[worst].item())


@row(rows, "log-determinant")
def log_determinant(subject: Subject) -> Finding:
    """Largest difference, in nats, from slogdet of the autograd Jacobian, data to noise."""
    return _log_determinant(subject, "forward")


@row(rows, "inverse log-determinant")
def inverse_log_determinant(subject: Subject) -> Finding:
    """The same from noise to data."""
    return _log_determinant(subject, "inverse")


@row(rows, "estimated log-determinant")
def estimated_log_determinant(subject: Subject) -> Finding:
    """Standard errors between the mean of 64 estimates and slogdet, at the worst point."""
    if not subject.estimated:
        raise NotApplicable("its log-determinant is no estimate")
    x, context = subject.x[:POINTS], subject.contexts(POINTS)
    with torch.no_grad():
        many = [subject.own.using(noise=k).transform(x, context)[1] for k in range(ESTIMATES)]
    estimates = torch.stack(many).double()
    error = estimates.std(0) / ESTIMATES**0.5 + subject.bound(1e-8, 1e-3, subject.own)
    off = (estimates.mean(0) - _reference(subject, "forward", x)[0]).abs()
    return Finding((off / error).max().item(), STANDARD_ERRORS)


@torch.no_grad()
def _round_trip(subject: Subject, there: str, back: str, scale: float = 1.0) -> Finding:
    """Error of the points that went there, back and there again, relative to the largest.

    Where a map is all but flat no inverse finds the point again, but its image it must: so each
    row's error is that of the point or that of its image, whichever is less. The nats by which the
    log-determinants of both ways differ count in float64; elsewhere rounding moves what is steep.
    """
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


@row(rows, "round trip from data")
def round_trip_from_data(subject: Subject) -> Finding:
    """Data to noise and back: relative error of the points or nats left over, the larger."""
    return _round_trip(subject, "forward", "inverse")


@row(rows, "round trip from noise")
def round_trip_from_noise(subject: Subject) -> Finding:
    """Noise to data and back."""
    return _round_trip(subject, "inverse", "forward")


@row(rows, "images alone")
@torch.no_grad()
def images_alone(subject: Subject) -> Finding:
    """Relative error of noise and of data that come without a log-determinant, the larger."""
    transform: Any = subject.flow.transform
    run = parts(transform)
    if not any(hasattr(part, "to_noise") or hasattr(part, "to_data") for part in run):
        raise NotApplicable("it computes none without its log-determinant")
    x, context = subject.x, subject.contexts(len(subject.x))
    z, _ = transform(x, context)
    data, _ = transform.inverse(z, context)
    errors = (_relative(to_noise(run, x, context), z), _relative(to_data(run, z, context), data))
    return Finding(torch.stack(errors).max().item(), subject.bound(1e-7, 2e-3))


@row(rows, "round trip in the tails")
def round_trip_in_the_tails(subject: Subject) -> Finding:
    """Data to noise and back, ten times farther out."""
    return _round_trip(subject, "forward", "inverse", TAILS)


@row(rows, "total mass", ONCE)
def mass_at_contexts(subject: Subject) -> Finding:
    """`resolved_mass`, the worst of a few contexts where there are any."""
    if subject.context is None:
        return resolved_mass(subject)
    findings, unresolved = [], None
    for context in subject.context[:CONTEXTS].unique(dim=0):
        try:
            findings.append(resolved_mass(replace(subject, context=context[None])))
        except NotApplicable as reason:
            unresolved = reason
    if not findings and unresolved is not None:
        raise unresolved
    return max(findings, key=lambda finding: finding.value / finding.bound)


def resolved_mass(subject: Subject) -> Finding:
    """`total_mass` by a coarse grid where half of its points agree, else by the fine one."""
    subject = replace(subject, flow=subject.at_many)
    if subject.dim in COARSE:
        if not (masses := _masses(subject, COARSE[subject.dim]))[0] < HOPELESS:
            return _mass_finding(subject, *masses)
        with contextlib.suppress(NotApplicable):
            finding = _mass_finding(subject, *masses)
            if finding.bound < 1.5 * subject.bound(1e-3, 1e-3):
                return finding
    return total_mass(subject)


def total_mass(subject: Subject) -> Finding:
    """How far the integral of the density is from one, by a grid over the samples' reach.

    The grid is uniform in asinh of the distance from the median, so that heavy tails fit. The
    bound allows for it, by twice as much as half of its points would change the mass.
    """
    if subject.dim not in GRID:
        raise NotApplicable("by quadrature for D up to 2; see log_prob of samples")
    return _mass_finding(subject, *_masses(subject, GRID[subject.dim]))


def _mass_finding(subject: Subject, mass: float, coarse: float, edges: float) -> Finding:
    if abs(mass - coarse) > UNRESOLVED:
        raise NotApplicable(f"unresolved by a grid: {mass:.3g}, or {coarse:.3g} by half of it")
    return Finding(abs(mass - 1), subject.bound(1e-3, 1e-3) + 2 * abs(mass - coarse) + edges)


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
