"""Expectation-maximisation of Gaussian mixtures as products of matrices, in float64.

A component's log-density is linear in the products of two entries of (1, x). One matrix product
evaluates all components, and one more forms all statistics of a step. Data are (D, N): a column a
row of the data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Covariance = Literal["full", "diagonal"]

CHUNK = 1024  # rows whose products are formed together
# what a step does beside its products of matrices, in FLOPs of such a product that take as long:
WEIGHING = 250  # of a row by a component
FORMING = 100  # of a product of two entries of a row
NARROW = 0.9  # share of the variance along a split that moves between the halves


@dataclass(frozen=True)
class Mixture:
    """Gaussians: ``logits`` (K,), ``means`` (K, D), ``factors`` (K, D, D) lower triangular."""

    covariance: Covariance
    logits: Tensor  # logarithms of the weights
    means: Tensor
    factors: Tensor  # of Cholesky

    @classmethod
    def of(cls, statistics: Tensor, covariance: Covariance, ridge: float) -> Mixture:
        """The M-step: components from their sums of products (K, F), ``ridge`` on all variances.

        A component that has less than one row is left out.
        """
        statistics = statistics[statistics[:, 0] >= 1]
        rows = statistics[:, 0]
        dim = _dim(statistics.shape[1], covariance)
        means = statistics[:, 1 : dim + 1] / rows[:, None]
        i, j = _pairs(dim, covariance)
        spread = statistics[:, dim + 1 :] / rows[:, None] - means[:, i] * means[:, j]
        matrices = means.new_zeros(len(rows), dim, dim)
        matrices[:, i, j] = matrices[:, j, i] = spread
        matrices.diagonal(dim1=1, dim2=2).add_(ridge)
        return cls(covariance, rows.div(rows.sum()).log(), means, torch.linalg.cholesky(matrices))

    @property
    def features(self) -> int:
        """F, the number of products of a row."""
        dim = self.means.shape[1]
        return 1 + dim + len(_pairs(dim, self.covariance)[0])

    @property
    def parameters(self) -> int:
        """The number of free parameters."""
        return len(self.means) * self.features - 1

    def coefficients(self) -> Tensor:
        """(K, F): what times the products of a row gives the logarithms of weight and density."""
        dim = self.means.shape[1]
        i, j = _pairs(dim, self.covariance)
        precisions = torch.cholesky_inverse(self.factors)
        slopes = (precisions @ self.means[:, :, None])[:, :, 0]
        constants = (
            self.logits - 0.5 * (self.means * slopes).sum(1) - 0.5 * dim * math.log(math.tau)
        )
        constants = constants - self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        curvatures = -precisions[:, i, j] * torch.where(i == j, 0.5, 1.0)
        return torch.cat([constants[:, None], slopes, curvatures], 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of data: (D, N) -> (N,)."""
        coefficients = self.coefficients()
        chunks = x.split(CHUNK, 1)
        parts = [coefficients @ products(chunk, self.covariance) for chunk in chunks]
        return torch.cat([part.logsumexp(0) for part in parts])

    def step(self, x: Tensor, ridge: float) -> Mixture:
        """One step of EM on data (D, N)."""
        coefficients = self.coefficients()
        statistics = torch.zeros_like(coefficients)
        buffer = x.new_empty(self.features, CHUNK)
        for chunk in x.split(CHUNK, 1):
            features = products(chunk, self.covariance, buffer[:, : chunk.shape[1]])
            statistics.addmm_((coefficients @ features).softmax(0), features.T)
        return Mixture.of(statistics, self.covariance, ridge)

    def flops(self, rows: int) -> float:
        """The work of a step on so many rows, in FLOPs of a product of matrices."""
        weighing = len(self.means) * (4 * self.features + WEIGHING)
        return float(rows * (weighing + self.features * FORMING))

    def split(self, count: int, generator: torch.Generator) -> Mixture:
        """The heaviest ``count`` components halved along random directions; moments are kept."""
        picks = self.logits.argsort(descending=True)[:count]
        factors = self.factors[picks]
        noise = torch.randn(len(picks), factors.shape[1], 1, generator=generator).to(factors)
        shift = NARROW**0.5 * (factors @ (noise / noise.norm(dim=1, keepdim=True)))
        logits, means, halves = self.logits.clone(), self.means.clone(), self.factors.clone()
        logits[picks] -= math.log(2)
        means[picks] += shift[:, :, 0]
        # the direction is a unit vector in the component's own coordinates
        matrices = factors @ factors.mT - shift @ shift.mT
        if self.covariance == "diagonal":
            matrices = torch.diag_embed(matrices.diagonal(dim1=1, dim2=2))
        halves[picks] = torch.linalg.cholesky(matrices)
        return Mixture(
            self.covariance,
            torch.cat([logits, logits[picks]]),
            torch.cat([means, self.means[picks] - shift[:, :, 0]]),
            torch.cat([halves, halves[picks]]),
        )

    def sample(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draws (rows, D)."""
        picks = torch.multinomial(self.logits.exp(), rows, replacement=True, generator=generator)
        noise = torch.randn(rows, self.means.shape[1], 1, generator=generator).to(self.means)
        draws = self.means.new_empty(rows, self.means.shape[1])
        for component in picks.unique():
            own = picks == component
            draws[own] = self.means[component] + noise[own, :, 0] @ self.factors[component].T
        return draws

    def leading(self, count: int) -> Mixture:
        """The density of the first ``count`` columns alone."""
        factors = self.factors[:, :count, :count]
        return Mixture(self.covariance, self.logits, self.means[:, :count], factors)

    def completed(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draws (N, D) whose first C columns are x (N, C)."""
        first = self.leading(x.shape[1])
        off = x.T - first.means[:, :, None]
        noise = torch.linalg.solve_triangular(first.factors, off, upper=False)  # (K, C, N)
        scale = first.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        weights = (self.logits - scale)[:, None] - 0.5 * noise.square().sum(1)
        picks = torch.multinomial(weights.softmax(0).T, 1, generator=generator)[:, 0]
        own = noise.permute(2, 0, 1)[torch.arange(len(x)), picks]
        rest = torch.randn(len(x), self.means.shape[1] - x.shape[1], generator=generator).to(x)
        steps = self.factors[picks] @ torch.cat([own, rest], 1)[:, :, None]
        return torch.cat([x, (self.means[picks] + steps[:, :, 0])[:, x.shape[1] :]], 1)


def products(x: Tensor, covariance: Covariance, out: Tensor | None = None) -> Tensor:
    """1, the entries of each column of x (D, N) and their products: (F, N), in ``out`` if given.

    F = (D + 1) (D + 2) / 2 with a full covariance, 2 D + 1 with a diagonal one.
    """
    one = torch.cat([torch.ones_like(x[:1]), x])
    if covariance == "diagonal":
        return torch.cat([one, x.square()], out=out)
    if out is None:
        out = x.new_empty(len(one) * (len(one) + 1) // 2, x.shape[1])
    for row, part in zip(one, out.split([*range(len(one), 0, -1)]), strict=True):
        torch.mul(row, one[-len(part) :], out=part)
    return out


def start(x: Tensor, covariance: Covariance, ridge: float) -> Mixture:
    """One Gaussian, by maximum likelihood, of data (D, N)."""
    chunks = [products(chunk, covariance).sum(1) for chunk in x.split(CHUNK, 1)]
    return Mixture.of(torch.stack(chunks).sum(0, keepdim=True), covariance, ridge)


def _dim(features: int, covariance: Covariance) -> int:
    """D of the number of products."""
    return (features - 1) // 2 if covariance == "diagonal" else math.isqrt(2 * features) - 1


def _pairs(dim: int, covariance: Covariance) -> tuple[Tensor, Tensor]:
    """Indices of the entries of a covariance that are free, in the order of `products`."""
    if covariance == "diagonal":
        return torch.arange(dim), torch.arange(dim)
    i, j = torch.triu_indices(dim, dim)
    return i, j
