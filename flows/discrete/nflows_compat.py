"""nflows transforms repaired for today's torch, and made fair where a default is not.

nflows 0.14 dates from 2020. Each class here is the nflows class of the same name with one fault
mended; the tests show each fault in the original.
"""

from __future__ import annotations

from typing import Any

import torch
from nflows import transforms
from torch import Tensor, nn


class ActNorm(transforms.ActNorm):
    """ActNorm that is set by ``initialize`` alone, and refuses a batch it cannot normalise.

    The original initialises itself in the first forward pass in training mode, from whatever
    comes, and turns a constant column or a single row into NaN. Kingma and Dhariwal, Glow:
    Generative Flow with Invertible 1x1 Convolutions, 2018, arXiv:1807.03039.
    """

    initialized: Any

    def __init__(self, features: int) -> None:
        super().__init__(features)
        del self.initialized  # a buffer, which forward would read back at every call
        self.initialized = True  # keeps the original from initialising in forward

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Make the outputs of x (N, D) have mean 0 and variance 1; ValueError if they cannot."""
        if len(x) < 2:
            raise ValueError(f"ActNorm needs at least two rows to initialise, got {len(x)}")
        sd, mean = torch.std_mean(x, 0)
        unusable = torch.nonzero(~(sd > 0) | ~torch.isfinite(sd)).flatten().tolist()
        if unusable:
            raise ValueError(
                f"ActNorm cannot scale columns {unusable}: constant or not finite in {len(x)} rows"
            )
        self.log_scale.copy_(-sd.log())
        self.shift.copy_(-mean / sd)


class AffineCouplingTransform(transforms.AffineCouplingTransform):
    """Affine coupling with scale exp(2 tanh(u / 2)), between 0.135 and 7.39, and 1 at u = 0.

    The original's scale, sigmoid(u + 2) + 0.001, is at most 1.001 and can only contract
    (https://github.com/bayesiains/nflows/issues/49). Dinh et al., Density estimation using Real
    NVP, 2017, arXiv:1605.08803.
    """

    def _scale_and_shift(self, transform_params: Tensor) -> tuple[Tensor, Tensor]:
        shift, unconstrained = transform_params.split(self.num_transform_features, 1)
        return torch.exp(2 * torch.tanh(unconstrained / 2)), shift


class NaiveLinear(transforms.NaiveLinear):
    """A dense W with a determinant by LU, O(D³), in every pass and both directions.

    The original's inverse calls torch.solve, which is gone, and its constructor torch.qr.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features, orthogonal_initialization=False)
        nn.init.orthogonal_(self._weight)

    def inverse_no_cache(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,); O(D³ + N D²)."""
        outputs = torch.linalg.solve(self._weight, (inputs - self.bias).T).T
        return outputs, -self.logabsdet() * outputs.new_ones(len(outputs))

    def weight_inverse_and_logabsdet(self) -> tuple[Tensor, Tensor]:
        """W⁻¹ (D, D) and log |det W|; O(D³)."""
        return self.weight_inverse(), self.logabsdet()


class LULinear(transforms.LULinear):
    """W = L U with a log-determinant in O(D), inverted by two triangular solves, O(N D²).

    The original calls torch.triangular_solve, deprecated, and builds its identity in float32 on
    the CPU whatever the parameters are.
    """

    def inverse_no_cache(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N, D), (N,)."""
        outputs = self._solve((inputs - self.bias).T).T
        return outputs, -self.logabsdet() * outputs.new_ones(len(outputs))

    def weight_inverse(self) -> Tensor:
        """W⁻¹ (D, D); O(D³)."""
        return self._solve(torch.eye(self.features).to(self.bias))

    def _solve(self, right: Tensor) -> Tensor:
        lower, upper = self._create_lower_upper()
        half = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)
        solution: Tensor = torch.linalg.solve_triangular(upper, half, upper=True)
        return solution
