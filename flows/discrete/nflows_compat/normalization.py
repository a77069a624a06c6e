"""ActNorm and batch normalisation, repaired."""

from __future__ import annotations

from typing import Any

import torch
from nflows import transforms
from torch import Tensor, nn


class ActNorm(transforms.ActNorm):
    """ActNorm that is set by ``initialize`` alone, and refuses a batch it cannot normalise.

    The original initialises itself in the first forward pass in training mode, from whatever
    comes, and turns a constant column or a single row into NaN
    (https://github.com/bayesiains/nflows/issues/4). Kingma and Dhariwal, Glow: Generative Flow
    with Invertible 1x1 Convolutions, 2018, arXiv:1807.03039.
    """

    initialized: Any

    def __init__(self, features: int) -> None:
        super().__init__(features)
        del self.initialized  # a buffer, which forward would read back at every call
        self.initialized = True  # keeps the original from initialising in forward

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise: (N, D) -> (N, D), (N,)."""
        if inputs.dim() != 2:
            images: tuple[Tensor, Tensor] = super().forward(inputs, context)
            return images
        outputs = torch.addcmul(self.shift, inputs, self.scale)
        return outputs, self.log_scale.sum().expand(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data: (N, D) -> (N, D), (N,)."""
        if inputs.dim() != 2:
            images: tuple[Tensor, Tensor] = super().inverse(inputs, context)
            return images
        outputs = (inputs - self.shift) / self.scale
        return outputs, (-self.log_scale.sum()).expand(len(inputs))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Make the outputs of x (N, D) have mean 0 and variance 1; ValueError if they cannot."""
        mean, sd = _moments(x, "ActNorm")
        self.log_scale.copy_(-sd.log())
        self.shift.copy_(-mean / sd)


class BatchNorm(transforms.BatchNorm):
    """Batch normalisation whose running variance starts at one, or where ``initialize`` puts it.

    The original's starts at zero, so that a fresh flow in evaluation mode scales by 300. In
    training mode log_prob depends on the batch, as the method has it: score in evaluation mode.
    Ioffe and Szegedy, Batch Normalization, 2015, arXiv:1502.03167.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        nn.init.ones_(self.running_var)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Take the running mean and variance from x (N, D); ValueError if it has none."""
        mean, sd = _moments(x, "BatchNorm")
        self.running_mean.copy_(mean)
        self.running_var.copy_(sd.square())


def _moments(x: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column; ValueError where one cannot be divided by."""
    if len(x) < 2:
        raise ValueError(f"{layer} needs at least two rows to initialise, got {len(x)}")
    sd, mean = torch.std_mean(x, 0)
    unusable = torch.nonzero(~(sd > 0) | ~torch.isfinite(sd)).flatten().tolist()
    if unusable:
        raise ValueError(
            f"{layer} cannot scale columns {unusable}: constant or not finite in {len(x)} rows"
        )
    return mean, sd
