"""Planar flows: each layer bends the space along one direction."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flows
from flows.bijection import Pair, bracketed
from flows.discrete.nflows_compat import ActNorm, CompositeTransform

IDENTITY = math.log(math.e - 1)  # softplus of it is one
TINY = 1e-30  # least ‖w‖²: below it the numerator is smaller still


class Planar(nn.Module):
    """z = x + û tanh(wᵀx + b), a Bijection from data to noise.

    û = u + (k - 1 - wᵀu) w / ‖w‖² with k = softplus(wᵀu + ln(e - 1)), so that 1 + wᵀû = k > 0, the
    map is invertible, and u = 0 is the identity. Both directions cost O(N D), the log-determinant
    ln(t² + k (1 - t²)) with t the tanh O(N). The inverse solves a + (k - 1) tanh(a + b) = wᵀz for
    a = wᵀx, one number a row, by Newton's iteration kept within a shrinking bracket.
    """

    iterative = True

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.randn(dim) * 0.01)
        self.w = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u, k = self._direction()
        bend = torch.tanh(x @ self.w + self.b)
        return torch.addcmul(x, bend[:, None], u), _slope(bend, k).log()

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u, k = self._direction()
        wz = z @ self.w
        target, fixed, shift = wz.detach(), k.detach(), self.b.detach()

        def bent(a: Tensor) -> Pair:
            bend = torch.tanh(a + shift)
            return a + (fixed - 1) * bend, _slope(bend, fixed)

        reach = (fixed - 1).abs()
        a = bracketed(bent, target, target - reach, target + reach, target)
        for _ in range(2):  # Newton steps: they end the solution, and carry two derivatives
            bend = torch.tanh(a + self.b)
            a = a - (a + (k - 1) * bend - wz) / _slope(bend, k)
        bend = torch.tanh(a + self.b)
        return z - bend[:, None] * u, -_slope(bend, k).log()

    def _direction(self) -> tuple[Tensor, Tensor]:
        """û (D,) and k ()."""
        wu = self.w @ self.u
        k = F.softplus(wu + IDENTITY)
        return self.u + (k - 1 - wu) * self.w / self.w.square().sum().clamp(min=TINY), k


def _slope(bend: Tensor, k: Tensor) -> Tensor:
    """1 + (k - 1)(1 - bend²), without the difference that would lose a small k."""
    square = bend.square()
    return torch.addcmul(square, k, 1 - square)


@flows.register("planar", uses=("layers",), version=2)  # 2: the inverse stops at a tolerance
def planar(dim: int, *, layers: int = 16) -> CompositeTransform:
    """Planar flow: an ActNorm, then the bends z = x + û tanh(wᵀx + b) one after the other.

    log_prob, sampling and the log-determinant cost O(N L D) alike, a sample some ten scalar
    Newton steps a layer beside that. Rezende and Mohamed, Variational Inference with Normalizing
    Flows, 2015, arXiv:1505.05770; there from noise to data, here from data to noise.
    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    return CompositeTransform([ActNorm(dim), *(Planar(dim) for _ in range(layers))])
