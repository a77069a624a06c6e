"""Monotone rational-quadratic splines with linear tails, elementwise."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

NARROWEST = 1e-3  # share of the interval that each bin has at least, in width and in height
FLATTEST = 1e-3  # smallest slope at a knot
UNIT_SLOPE = math.log(math.expm1(1 - FLATTEST))  # softplus of it, plus FLATTEST, is one


class Spline:
    """y(x) on [-bound, bound] by K bins, and y = x outside, for each entry of x apart.

    ``raw`` (..., 3K - 1) holds unconstrained widths, heights and inner slopes; zeros are the
    identity. Both directions return the result and log |dy/dx| or log |dx/dy|, shaped as x. The
    points ±bound belong to the tails, so that no rounding of the last knot matters, and every
    entry goes the same way, so that torch.func can map it. Durkan et al., Neural Spline Flows,
    2019, arXiv:1906.04032, equations 4 to 8.
    """

    def __init__(self, raw: Tensor, bound: float) -> None:
        bins = (raw.shape[-1] + 1) // 3
        sizes, slopes = raw.split((2 * bins, bins - 1), -1)
        inner = FLATTEST + F.softplus(slopes + UNIT_SLOPE)
        knots = _knots(sizes.unflatten(-1, (2, bins)), bound)
        self.bound = bound
        # (..., 3, K + 1): x, y and slope at each knot
        self.table = torch.cat([knots, F.pad(inner, (1, 1), value=1.0)[..., None, :]], -2)

    def double(self) -> Spline:
        """The same curve, evaluated in float64."""
        other = copy.copy(self)
        other.table = self.table.double()
        return other

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log dy/dx."""
        inside, x0, y0, w, h, s, d0, d1 = self._bin(x, 0)
        rise, slope = _curve((x.clamp(-self.bound, self.bound) - x0) / w, h, s, d0, d1)
        return torch.where(inside, y0 + rise, x), torch.where(inside, slope.log(), 0.0)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, log dx/dy, and by how much y(x) misses y: rounding may spoil the quadratic's root."""
        inside, x0, y0, w, h, s, d0, d1 = self._bin(y, 1)
        above = y.clamp(-self.bound, self.bound) - y0
        bend = above * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * above
        root = (b**2 - 4 * a * c).clamp(min=torch.finfo(y.dtype).tiny).sqrt()
        theta = (2 * c / (-b - root)).clamp(0, 1)
        rise, slope = _curve(theta, h, s, d0, d1)
        ladj = torch.where(inside, -slope.log(), 0.0)
        return torch.where(inside, x0 + theta * w, y), ladj, (rise - above).abs()

    def _bin(self, value: Tensor, axis: int) -> tuple[Tensor, ...]:
        """Whether a value lies inside; its bin's corner, width, height, chord and slopes."""
        index = (value[..., None] >= self.table[..., axis, 1:-1]).sum(-1)
        ends = torch.stack((index, index + 1), -1)[..., None, :].expand(*index.shape, 3, 2)
        x0, x1, y0, y1, d0, d1 = self.table.gather(-1, ends).flatten(-2).unbind(-1)
        w, h = x1 - x0, y1 - y0
        return value.abs() < self.bound, x0, y0, w, h, h / w, d0, d1


def _knots(raw: Tensor, bound: float) -> Tensor:
    """Positions of K + 1 knots from -bound to bound: (..., K) -> (..., K + 1).

    The softmax is written out: torch's own is several times slower on the CPU where K is small.
    Like that one it is of float32 under autocast.
    """
    bins = raw.shape[-1]
    half, device = raw.dtype in (torch.bfloat16, torch.float16), raw.device.type
    if half and torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        raw = raw.float()
    knots = (raw - raw.detach().amax(-1, keepdim=True)).exp_().cumsum(-1)
    knots = knots / knots[..., -1:]
    least = 2 * bound * NARROWEST
    options: Any = {"dtype": knots.dtype, "device": knots.device}
    lowest = torch.linspace(least - bound, bins * least - bound, bins, **options)
    knots = torch.add(lowest, knots, alpha=2 * bound - bins * least)
    knots = F.pad(knots, (1, -1), value=-bound)
    return F.pad(knots, (0, 1), value=bound)


def _curve(theta: Tensor, h: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> tuple[Tensor, Tensor]:
    """Rise above the bin's lower corner at the share theta of its width, and the slope there."""
    rest = 1 - theta
    square, mixed = theta * theta, theta * rest
    denominator = torch.addcmul(s, torch.sub(d0 + d1, s, alpha=2), mixed)
    rise = h * torch.addcmul(s * square, d0, mixed) / denominator
    slopes = torch.addcmul(torch.addcmul(d1 * square, s, mixed, value=2), d0, rest * rest)
    ratio = s / denominator
    return rise, slopes * ratio * ratio
