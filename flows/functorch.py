"""What torch says of its function transforms: its names are private, so they are here alone."""

from __future__ import annotations

import torch
from torch import Tensor


def transforming() -> bool:
    """Whether a torch.func transform is under way, whatever tensors it concerns."""
    return bool(torch._C._are_functorch_transforms_active())


def transformed(x: Tensor) -> bool:
    """Whether x stands for another tensor inside a torch.func transform."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(x))
