"""A fixed affine whitening, fitted on training data, to precede a learned flow."""

from __future__ import annotations

from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from flows.linalg import widened


class Whitening(nn.Module):
    """z = C⁻¹ (x - mean) with C Cᵀ the covariance: a Bijection without parameters.

    Its log-determinant -Σ log C_ii is counted, so densities stay densities of the raw data.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        """``mean`` (D,) and the lower triangular Cholesky ``factor`` C (D, D)."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)

    @classmethod
    def fit(cls, x: Tensor) -> Self:
        """From data (N, D), in float64; ValueError where the covariance is singular."""
        data = x.double()
        if len(x) <= x.shape[1]:
            raise ValueError(
                f"a whitening of {x.shape[1]} columns needs more rows than that, got {len(x)}"
            )
        if not bool(torch.isfinite(data).all()):
            raise ValueError("cannot whiten: the data has NaN or infinity")
        covariance = data.T.cov().reshape(x.shape[1], x.shape[1])
        factor, info = torch.linalg.cholesky_ex(covariance)
        # rounding of a column that the others determine: in the factorisation, and in the data
        rounding = 10 * len(covariance) * torch.finfo(data.dtype).eps * covariance.diagonal()
        rounding += (10 * torch.finfo(x.dtype).eps) ** 2 * data.square().mean(0)
        within = torch.nonzero(factor.diagonal().square() <= rounding).flatten().tolist()
        if info.item() or within:
            column = info.item() - 1 if info.item() else within[0]
            raise ValueError(f"cannot whiten: the covariance is singular at column {column}")
        return cls(data.mean(0).to(x), factor.to(x))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,)."""
        solve = partial(torch.linalg.solve_triangular, upper=False)
        z = widened(solve, self.factor, (x - self.mean).T).T
        return z, (-self._logdet()).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,)."""
        return self.mean + z @ self.factor.T, self._logdet().expand(len(z))

    def _logdet(self) -> Tensor:
        return self.factor.diagonal().log().sum()
