"""Base densities, and a gradient, that are broken on purpose."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Laplace

from flows.adapters.distributions import DistributionBase
from flows.bijection import StandardNormal


class WrongBase(StandardNormal):
    """Draws what is not its density; or, ``heavy``, a density of mass two."""

    def __init__(self, scale: float, heavy: bool = False) -> None:
        super().__init__()
        self.scale, self.heavy = scale, heavy

    def log_prob(self, z: Tensor) -> Tensor:
        return super().log_prob(z) + (torch.log(torch.tensor(2.0)) if self.heavy else 0)

    def rsample(self, like: Tensor) -> Tensor:
        return self.scale * super().rsample(like)


class Wide(DistributionBase):
    """A Laplace density that is drawn from twice as widely."""

    def __init__(self) -> None:
        super().__init__(Independent(Laplace(torch.zeros(3), torch.ones(3)), 1))

    def rsample(self, like: Tensor) -> Tensor:
        return 2 * super().rsample(like)


class WrongGradient(torch.autograd.Function):
    """The identity, whose gradient is one per cent too large."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 1.01 * gradient
