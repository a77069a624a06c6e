"""Planar flows: each layer bends the space along one direction."""

from __future__ import annotations

import torch
from nflows.transforms import CompositeTransform
from torch import Tensor, nn
from torch.nn import functional as F

import flows
from flows.discrete.nflows_compat import ActNorm
from flows.flow import concrete

ROUNDS = 60  # of the inverse: bisection alone reaches double precision in that many


class Planar(nn.Module):
    """z = x + û tanh(wᵀx + b), a Bijection from data to noise.

    û = u + (softplus(wᵀu) - 1 - wᵀu) w / ‖w‖², so that wᵀû > -1 and the map is invertible. Both
    directions cost O(N D), the log-determinant log |1 + wᵀû (1 - tanh²)| O(N). The inverse solves
    a + wᵀû tanh(a + b) = wᵀz for a = wᵀx, one number a row, by Newton's iteration kept within a
    shrinking bracket; its gradient is that of the exact solution.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.randn(dim) * 0.01)
        self.w = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,)."""
        u, wu = self._direction()
        bend = torch.tanh(x @ self.w + self.b)
        return x + bend[:, None] * u, torch.log1p(wu * (1 - bend**2))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,)."""
        u, wu = self._direction()
        wz = z @ self.w
        a = _root(wz.detach(), wu.detach(), self.b.detach())
        bend = torch.tanh(a + self.b)
        # one Newton step from the solution moves nothing and carries the gradient
        a = a - (a + wu * bend - wz) / (1 + wu * (1 - bend**2)).detach()
        bend = torch.tanh(a + self.b)
        return z - bend[:, None] * u, -torch.log1p(wu * (1 - bend**2))

    def _direction(self) -> tuple[Tensor, Tensor]:
        """û (D,) and wᵀû ()."""
        wu = self.w @ self.u
        bounded = F.softplus(wu) - 1
        tiny = torch.finfo(wu.dtype).tiny
        return self.u + (bounded - wu) * self.w / self.w.square().sum().clamp(min=tiny), bounded


@torch.no_grad()
def _root(target: Tensor, slope: Tensor, shift: Tensor) -> Tensor:
    """The a of a + slope · tanh(a + shift) = target, (N,), increasing in a as slope > -1."""
    low, high = target - slope.abs(), target + slope.abs()
    a = target
    for _ in range(ROUNDS):
        bend = torch.tanh(a + shift)
        excess = a + slope * bend - target
        low, high = torch.where(excess < 0, a, low), torch.where(excess > 0, a, high)
        newton = a - excess / (1 + slope * (1 - bend**2))
        inside = (newton >= low) & (newton <= high)
        previous, a = a, torch.where(inside, newton, (low + high) / 2)
        if concrete(a) and bool((a == previous).all()):
            break
    return a


@flows.register("planar", uses=("layers",))
def planar(dim: int, *, layers: int = 16) -> CompositeTransform:
    """Planar flow: an ActNorm, and then z = x + û tanh(wᵀx + b) ``layers`` times.

    log_prob, sampling and the log-determinant cost O(N L D) alike, a sample some ten scalar
    Newton steps a layer beside that. Rezende and Mohamed, Variational Inference with Normalizing
    Flows, 2015, arXiv:1505.05770; there from noise to data, here from data to noise.

    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    return CompositeTransform([ActNorm(dim), *(Planar(dim) for _ in range(layers))])
