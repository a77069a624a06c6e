"""Rows on the density: its log-determinant, inverse, mass and samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flows.conformance.subject import POINTS, Finding, NotApplicable, Row, Subject, row
from flows.flow import StandardNormal

rows: list[Row] = []

ESTIMATES = 64  # of an estimated log-determinant
STANDARD_ERRORS = 4.0  # that their mean may be off
TAILS = 100.0  # how many times farther out than the points the tails are
SAMPLES = 2000
GRID = {1: 4001, 2: 181}  # points a side


def jacobians(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian of every row, (N, D, D), by one backward pass a column."""
    x = x.clone().requires_grad_()
    y = function(x)
    parts = [torch.autograd.grad(y[:, k].sum(), x, retain_graph=True)[0] for k in range(y.shape[1])]
    return torch.stack(parts, 1)


def _reference(subject: Subject, direction: str, x: Tensor) -> Tensor:
    """log |det| of the Jacobian, in float64, one matrix at a time."""
    x, context = x.double(), subject.expanded(len(x))
    move = getattr(subject.reference.transform, direction)
    context = None if context is None else context.double()
    matrices = jacobians(lambda x: move(x, context)[0], x)
    return torch.stack([torch.linalg.slogdet(matrix)[1] for matrix in matrices])


def _log_determinant(subject: Subject, direction: str) -> Finding:
    x = subject.x[:POINTS]
    ladj = getattr(subject.flow.transform, direction)(x, subject.expanded(len(x)))[1].detach()
    if ladj.shape != (len(x),):
        return Finding(float("inf"), 0.0, f"expected shape ({len(x)},), got {tuple(ladj.shape)}")
    error = (ladj - _reference(subject, direction, x)).abs().max().item()
    return Finding(error, subject.bound(1e-8, 1e-3))


@row(rows, "log-determinant")
def log_determinant(subject: Subject) -> Finding:
    """Largest difference, in nats, from slogdet of the autograd Jacobian, data to noise."""
    return _log_determinant(subject, "forward")


@row(rows, "inverse log-determinant")
def log_determinant_of_the_inverse(subject: Subject) -> Finding:
    """The same from noise to data."""
    return _log_determinant(subject, "inverse")


@row(rows, "estimated log-determinant")
def estimated_log_determinant(subject: Subject) -> Finding:
    """Standard errors between the mean of 64 estimates and slogdet, at the worst row."""
    if not subject.estimated:
        raise NotApplicable("its log-determinant is no estimate")
    x, context = subject.x[:POINTS], subject.expanded(POINTS)
    with torch.no_grad():
        many = [subject.own.using(noise=k).transform(x, context)[1] for k in range(ESTIMATES)]
    estimates = torch.stack(many).double()
    error = estimates.std(0) / ESTIMATES**0.5 + subject.bound(1e-8, 1e-3, subject.own)
    off = (estimates.mean(0) - _reference(subject, "forward", x)).abs()
    return Finding((off / error).max().item(), STANDARD_ERRORS)


@torch.no_grad()
def _round_trip(subject: Subject, there: str, back: str) -> Finding:
    """Largest error relative to the size of the points, and of the log-determinants' sum."""
    x = subject.x[:64]
    transform, context = subject.flow.transform, subject.expanded(len(x))
    y, ladj = getattr(transform, there)(x, context)
    again, opposite = getattr(transform, back)(y, context)
    nats = (ladj + opposite).abs().max().item()
    error = max(_relative(again, x).max().item(), nats)
    return Finding(error, subject.bound(1e-7, 2e-3), f"log-determinants: {nats:.1e}")


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


@row(rows, "round trip in the tails")
@torch.no_grad()
def round_trip_in_the_tails(subject: Subject) -> Finding:
    """A hundred times farther out, data to noise and back, and there again.

    Where a map is all but flat no inverse can find the point again, but its noise it must: so the
    error is that of the point or that of its noise, whichever is less, in each row. The nats left
    over count in float64.
    """
    x = TAILS * subject.x[:64]
    transform: Any = subject.flow.transform
    context = subject.expanded(len(x))
    z, _ = transform(x, context)
    again, opposite = transform.inverse(z, context)
    noise, ladj = transform(again, context)
    error = torch.minimum(_relative(again, x), _relative(noise, z)).max().item()
    nats = (ladj + opposite).abs().max().item()
    exact = subject.dtype == torch.float64  # elsewhere rounding alone moves what is steep
    bound = subject.bound(1e-7, 2e-3)
    return Finding(max(error, nats if exact else 0.0), bound, f"log-determinants: {nats:.1e}")


@row(rows, "total mass", (torch.float64,))
@torch.no_grad()
def total_mass(subject: Subject) -> Finding:
    """How far the integral of the density is from one, by a grid over the samples' reach.

    The bound allows for the grid: by as much as half of the grid's points would change it.
    """
    if subject.dim not in GRID:
        raise NotApplicable("by quadrature for D up to 2; see log_prob of samples")
    context, side = subject.served(1), GRID[subject.dim]
    reach = subject.flow.sample(SAMPLES, context)
    centre = reach.mean(0)
    half = 2.0 * (reach - centre).abs().amax(0)
    axes = [
        torch.linspace(-1, 1, side, dtype=subject.dtype) * half[k] + centre[k]
        for k in range(subject.dim)
    ]
    points = torch.cartesian_prod(*axes).reshape(-1, subject.dim)
    parts = [subject.flow.log_prob(part, context).exp() for part in points.split(10_000)]
    density = torch.cat(parts).reshape([side] * subject.dim)
    cell = (2 * half / (side - 1)).prod().item()
    mass = density.sum().item() * cell
    every_second = density[(slice(None, None, 2),) * subject.dim]
    coarse = every_second.sum().item() * cell * 2**subject.dim
    return Finding(abs(mass - 1), subject.bound(1e-3, 1e-3) + abs(mass - coarse))


@row(rows, "log_prob of samples")
@torch.no_grad()
def log_prob_of_samples(subject: Subject) -> Finding:
    """log_prob of samples against the base density less the inverse's log-determinant."""
    context = subject.served(64)
    x, log_prob = subject.flow.rsample_and_log_prob(64, context)
    error = (subject.flow.log_prob(x, context) - log_prob).abs().max().item()
    return Finding(error, subject.bound(1e-7, 5e-3))


@row(rows, "samples and density", (torch.float64,))
@torch.no_grad()
def samples_against_the_density(subject: Subject) -> Finding:
    """Kolmogorov's distance of the samples' noise from fresh noise, times √(n/2).

    The largest over the columns and the radius, each a two-sample test; the bound is the critical
    value at a level of 1e-4 for all of them together.
    """
    context = subject.served(SAMPLES)
    noise = subject.flow.to_noise(subject.flow.sample(SAMPLES, context), context)
    normal = isinstance(subject.flow.base, StandardNormal)
    fresh = torch.randn_like(noise) if normal else subject.flow.base.rsample(noise)
    pairs = [(noise[:, k], fresh[:, k]) for k in range(subject.dim)]
    pairs.append((noise.square().sum(1), fresh.square().sum(1)))
    distances = [_kolmogorov(a, b) for a, b in pairs]
    level = torch.tensor(1e-4 / len(pairs))
    critical = (-0.5 * torch.log(level / 2)).sqrt().item()
    return Finding(max(distances) * (SAMPLES / 2) ** 0.5, critical)


def _kolmogorov(a: Tensor, b: Tensor) -> float:
    both = torch.cat([a, b]).sort().values
    ranks = [
        torch.searchsorted(part.sort().values, both, right=True) / len(part) for part in (a, b)
    ]
    return (ranks[0] - ranks[1]).abs().max().item()
