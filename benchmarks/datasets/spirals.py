"""FFJORD's `2spirals`: two arms of growing radius, blurred; density by quadrature along an arm.

Source: `lib/toy_data.py` of Grathwohl et al., FFJORD, 2018, arXiv:1810.01367. A row's arm is a
random sign, where theirs has two equal halves.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets import Dataset, register
from benchmarks.datasets.drawn import drawn

END = 3 * math.pi  # of the angle
WIDTH, SPREAD = 0.5 / 3, 0.1  # of the uniform and the Gaussian blur
NODES = 420  # of the quadrature along an arm: less than a spread apart
CHUNK = 2048  # rows per block of distances to all nodes


def sample(n: int, generator: torch.Generator) -> Tensor:
    """Two arms, r = sqrt(U) 3 pi: +-(-r cos r + U/2, r sin r + U/2) / 3 + 0.1 N(0, I): (n, 2)."""
    r = torch.rand(n, generator=generator, dtype=torch.float64).sqrt() * END
    arm = torch.stack((-r * r.cos(), r * r.sin()), dim=1)
    arm = arm + 0.5 * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    sign = 2.0 * torch.randint(2, (n, 1), generator=generator) - 1
    return sign * arm / 3 + SPREAD * torch.randn(n, 2, generator=generator, dtype=torch.float64)


def log_prob(x: Tensor, nodes: int = NODES) -> Tensor:
    """Log density, nats: (n, 2) -> (n,), by Gauss-Legendre along an arm.

    Within 10 spreads of the arms the error is below 1e-9 (tested by twice the nodes).
    """
    places, weights = (a.to(x) for a in _arm(nodes))
    parts = []
    for part in torch.split(x, CHUNK):
        both = torch.stack((part, -part))  # the arms are point reflections of each other
        arm_log_densities = sum(_log_blur(both[..., i, None] - places[:, i]) for i in (0, 1))
        parts.append(torch.logsumexp(weights.log() + arm_log_densities, dim=-1).logsumexp(dim=0))
    return torch.cat(parts) - math.log(2)


@cache
def entropy(step: float = 0.25, margin: float = 9.0, nodes: int = NODES) -> float:
    """Integrate by the trapezoid rule in the plane, nats; error below 1e-10 (tested).

    ``step`` and ``margin``, the width of the rim beyond the arms, are in spreads. On a grid the
    density is a product of matrices, since the blur is one along x times one along y.
    """
    places, weights = _arm(nodes)
    h, end = step * SPREAD, END / 3 + WIDTH + margin * SPREAD
    line = h * torch.arange(-round(end / h), round(end / h) + 1, dtype=torch.float64)
    x, y = (_log_blur(line[:, None] - places[:, i]).exp() for i in (0, 1))
    one = (x * weights) @ y.T
    density = (one + one.flip(0, 1)) / 2
    return -(h**2) * float(torch.xlogy(density, density).sum())


def _arm(nodes: int) -> tuple[Tensor, Tensor]:
    """Return nodes (K, 2) along the first arm and their weights (K,), which sum to 1."""
    at, weight = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(nodes))
    r = END / 2 * (at + 1)
    places = torch.stack((-r * r.cos(), r * r.sin()), dim=1) / 3
    return places, weight * r / END  # r's density is 2 r / END^2


def _log_blur(distance: Tensor) -> Tensor:
    """Log density of U(0, WIDTH) + N(0, SPREAD^2), on the side of its centre without loss."""
    near = torch.minimum(distance, WIDTH - distance) / SPREAD
    upper = torch.special.log_ndtr(near)
    lower = torch.special.log_ndtr(near - WIDTH / SPREAD)
    log_prob: Tensor = upper + torch.log1p(-(lower - upper).exp()) - math.log(WIDTH)
    return log_prob


@register("2spirals", dim=2)
def load(root: Path | None, seed: int) -> Dataset:
    """The spirals as a data set."""
    about = "Synthetic 2spirals after FFJORD's toy_data.py (arXiv:1810.01367)"
    return drawn("2spirals", seed, sample, about, log_prob=log_prob, entropy=entropy())
