"""Monotone rational-quadratic splines with linear tails, elementwise."""

from __future__ import annotations

import copy
import math

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
        widths, heights, slopes = raw.split((bins, bins, bins - 1), -1)
        inner = FLATTEST + F.softplus(slopes + UNIT_SLOPE)
        self.bound = bound
        self.table = torch.stack(
            [_knots(widths, bound), _knots(heights, bound), F.pad(inner, (1, 1), value=1.0)], -2
        )  # (..., 3, K + 1): x, y and slope at each knot

    def double(self) -> Spline:
        """The same curve, evaluated in float64."""
        other = copy.copy(self)
        other.table = self.table.double()
        return other

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log dy/dx."""
        inside, x0, y0, w, h, s, d0, d1 = self._bin(x, 0)
        theta = (torch.where(inside, x, x0) - x0) / w
        y = y0 + _rise(theta, h, s, d0, d1)
        slope = torch.where(inside, _log_slope(theta, s, d0, d1), 0.0)
        return torch.where(inside, y, x), slope

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, log dx/dy, and by how much y(x) misses y: rounding may spoil the quadratic's root."""
        inside, x0, y0, w, h, s, d0, d1 = self._bin(y, 1)
        above = torch.where(inside, y, y0) - y0
        bend = above * (d0 + d1 - 2 * s)
        a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * above
        root = (b**2 - 4 * a * c).clamp(min=torch.finfo(y.dtype).tiny).sqrt()
        theta = (2 * c / (-b - root)).clamp(0, 1)
        slope = torch.where(inside, -_log_slope(theta, s, d0, d1), 0.0)
        missed = (_rise(theta, h, s, d0, d1) - above).abs()
        return torch.where(inside, x0 + theta * w, y), slope, missed

    def _bin(self, value: Tensor, axis: int) -> tuple[Tensor, ...]:
        """Whether a value lies inside; its bin's corner, width, height and slopes."""
        inside = value.abs() < self.bound
        index = (value[..., None] >= self.table[..., axis, 1:-1]).sum(-1)
        index = index[..., None, None].expand(*index.shape, 3, 1)
        x0, y0, d0 = self.table.gather(-1, index)[..., 0].unbind(-1)
        x1, y1, d1 = self.table.gather(-1, index + 1)[..., 0].unbind(-1)
        w, h = x1 - x0, y1 - y0
        return inside, x0, y0, w, h, h / w, d0, d1


def _knots(raw: Tensor, bound: float) -> Tensor:
    """Positions of K + 1 knots from -bound to bound: (..., K) -> (..., K + 1)."""
    shares = NARROWEST + (1 - NARROWEST * raw.shape[-1]) * F.softmax(raw, -1)
    inner = 2 * bound * shares[..., :-1].cumsum(-1) - bound
    ends = (F.pad(inner, (1, 0), value=-bound), (0, 1))
    return F.pad(*ends, value=bound)


def _rise(theta: Tensor, h: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """y above the bin's lower corner, at the share theta of its width."""
    return h * (s * theta**2 + d0 * theta * (1 - theta)) / _denominator(theta, s, d0, d1)


def _denominator(theta: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    return s + (d0 + d1 - 2 * s) * theta * (1 - theta)


def _log_slope(theta: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    numerator = d1 * theta**2 + 2 * s * theta * (1 - theta) + d0 * (1 - theta) ** 2
    return 2 * s.log() + numerator.log() - 2 * _denominator(theta, s, d0, d1).log()
