"""Rows on samples: their densities, and whether they are drawn from the density."""

from __future__ import annotations

import torch
from torch import Tensor

from flows.bijection import StandardNormal
from flows.conformance.rows import ONCE, Finding, NotApplicable, Row, row
from flows.conformance.subject import Subject
from flows.flow import Flow

rows: list[Row] = []

SAMPLES = 2000
CONTEXTS = 3  # given each of which alone samples are drawn
LEVEL = 1e-4  # of all statistics of samples together


@row(rows, "log_prob of samples")
@torch.no_grad()
def log_prob_of_samples(subject: Subject) -> Finding:
    """log_prob of samples against the base density less the inverse's log-determinant."""
    context = subject.contexts(64)
    x, log_prob = subject.flow.rsample_and_log_prob(64, context)
    error = (subject.flow.log_prob(x, context) - log_prob).abs().max().item()
    return Finding(error, subject.bound(1e-7, 5e-3))


@row(rows, "samples and density", ONCE)
def samples_and_density(subject: Subject) -> Finding:
    """Whether the noise of samples is distributed as the base density.

    For N(0, I) Kolmogorov's distance from fresh normal noise times √(n/2), the largest over the
    columns and the radius, against the critical value at a level of 1e-4 for all together. For
    another base by Stein's identities E[s] = 0 and E[z sᵀ] = -I with s = ∇ log p of the base:
    the largest deviation in standard errors, at the same level. With contexts, given all of them in
    turn and given each of `CONTEXTS` alone, since errors may cancel over contexts.
    """
    flow, contexts = subject.at_many, subject.contexts(SAMPLES)
    given: list[Tensor | None] = [contexts]
    if contexts is not None:
        given += [alone.expand(SAMPLES // CONTEXTS, -1) for alone in contexts[:CONTEXTS, None]]
    with torch.no_grad():
        counts = [SAMPLES if context is None else len(context) for context in given]
        samples = map(flow.sample, counts, given)
        noises = [flow.to_noise(x, context) for x, context in zip(samples, given, strict=True)]
    statistics = _distances if isinstance(flow.base, StandardNormal) else _deviations
    values = [statistics(flow, noise) for noise in noises]
    share = 0.5 * LEVEL / sum(map(len, values))
    if isinstance(flow.base, StandardNormal):
        critical = (-0.5 * torch.log(torch.tensor(share))).sqrt().item()
    else:
        critical = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - share)).item()
    return Finding(torch.cat(values).max().item(), critical)


def _distances(flow: Flow, noise: Tensor) -> Tensor:
    """Kolmogorov's distances of columns and radius from normal noise, times √(n/2), (D + 1,)."""
    fresh = torch.randn_like(noise)
    pairs = [(noise[:, k], fresh[:, k]) for k in range(noise.shape[1])]
    pairs.append((noise.square().sum(1), fresh.square().sum(1)))
    scale = (len(noise) / 2) ** 0.5
    return torch.tensor([scale * _kolmogorov(a, b) for a, b in pairs], dtype=noise.dtype)


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
    deviations: Tensor = terms.mean(0).abs() / errors
    return deviations


def _kolmogorov(a: Tensor, b: Tensor) -> float:
    both = torch.cat([a, b]).sort().values
    ranks = [
        torch.searchsorted(part.sort().values, both, right=True) / len(part) for part in (a, b)
    ]
    return (ranks[0] - ranks[1]).abs().max().item()
