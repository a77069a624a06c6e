"""FFJORD's `pinwheel`: five Gaussian arms, rotated by an angle that grows along them.

Source: `lib/toy_data.py` of Grathwohl et al., FFJORD, 2018, arXiv:1810.01367. A row's arm is drawn,
where theirs has equal shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets import Dataset, register
from benchmarks.datasets.drawn import drawn

ARMS, RATE, SCALE = 5, 0.25, 2.0
MEAN, SPREADS = 1.0, (0.3, 0.1)  # along the arm; along it and across
SECTOR = 2 * math.pi / ARMS
HALVINGS, NEWTON = 16, 4  # steps to a place on an arm from its angle
LARGEST = 30.0  # place along an arm, a hundred spreads out, beyond which the turn is constant


def sample(n: int, generator: torch.Generator) -> Tensor:
    """2 (r, s) turned by -(2 pi k / 5 + e^r / 4), r ~ N(1, 0.3^2), s ~ N(0, 0.1^2): (n, 2)."""
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    r, s = MEAN + SPREADS[0] * noise[:, 0], SPREADS[1] * noise[:, 1]
    arm = torch.randint(ARMS, (n,), generator=generator)
    angle = arm * SECTOR + RATE * r.exp()
    cos, sin = angle.cos(), angle.sin()
    return SCALE * torch.stack((r * cos + s * sin, s * cos - r * sin), dim=1)


def log_prob(x: Tensor) -> Tensor:
    """Log density, nats: (n, 2) -> (n,), the sum over the place on each arm that was turned to x.

    A turn leaves the radius alone, so the place on an arm is one angle, the root of an equation.
    Far across the arms, where s e^r < -4, the turn folds the plane: what is folded under is left
    out, 2e-9 of the mass (tested).
    """
    return _of_polar(x.norm(dim=1) / SCALE, torch.atan2(x[:, 1], x[:, 0])) - 2 * math.log(SCALE)


@cache
def entropy(radii: int = 200, angles: int = 160, end: float = 3.4) -> float:
    """Integrate by Gauss-Legendre over the radius and trapezoids over the angle, nats.

    The error is below 1e-7 (tested), mostly of the folds.
    """
    at, weight = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(radii))
    radius, turn = end / 2 * (at + 1), torch.arange(angles).double() * (SECTOR / angles)
    pairs = torch.cartesian_prod(radius, turn)
    log_p = _of_polar(pairs[:, 0], pairs[:, 1]).view(radii, angles)
    over_angles = 2 * math.pi * (log_p.exp() * log_p).mean(1)
    return 2 * math.log(SCALE) - float((end / 2 * weight * radius * over_angles).sum())


def _of_polar(radius: Tensor, angle: Tensor) -> Tensor:
    """Log density before scaling at (radius, angle), each (n,): (n,)."""
    radius, angle = radius[:, None], angle[:, None]
    start = fold(radius)
    first = ((_turned(radius, start) - angle) / SECTOR).ceil()
    target = angle + SECTOR * (first + torch.arange(ARMS).to(first))
    low, high = _halved(start, start + 2 * math.pi, lambda p: _turned(radius, p) < target)
    place = (low + high) / 2
    for _ in range(NEWTON):
        step = (_turned(radius, place) - target) / slope(radius, place)
        place = torch.minimum(torch.maximum(place - step, low), high)
    r, s = radius * place.cos(), radius * place.sin()
    square = ((r - MEAN) / SPREADS[0]).square() + (s / SPREADS[1]).square()
    constant = math.log(ARMS * 2 * math.pi * SPREADS[0] * SPREADS[1])
    return torch.logsumexp(-square / 2 - slope(radius, place).abs().log(), dim=1) - constant


def fold(radius: Tensor) -> Tensor:
    """Return the place after which a turned arm has no fold; where it is slowest if it has none."""
    cos = 2 * radius / (1 + (1 + 4 * radius.square()).sqrt())
    slowest = -cos.acos()
    return _halved(slowest, torch.zeros_like(slowest), lambda p: slope(radius, p) < 0)[1]


def _halved(low: Tensor, high: Tensor, below: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Halve an interval towards the end of the set on which ``below`` holds."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = below(middle)
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return low, high


def _turned(radius: Tensor, place: Tensor) -> Tensor:
    """Map a place on the first arm, an angle in radians, by the turn."""
    return place - _turn(radius, place)


def slope(radius: Tensor, place: Tensor) -> Tensor:
    """Derivative of `_turned` by the place, which is also the turn's Jacobian determinant."""
    return 1 + radius * place.sin() * _turn(radius, place)


def _turn(radius: Tensor, place: Tensor) -> Tensor:
    """Angle of the turn; clamped where the density is zero anyway, so that it cannot overflow."""
    return RATE * (radius * place.cos()).clamp(max=LARGEST).exp()


@register("pinwheel", dim=2)
def load(root: Path | None, seed: int) -> Dataset:
    """The pinwheel as a data set."""
    about = "Synthetic pinwheel after FFJORD's toy_data.py (arXiv:1810.01367)"
    return drawn("pinwheel", seed, sample, about, log_prob=log_prob, entropy=entropy())
