"""Private queries of torch about function transforms, in one place."""

from __future__ import annotations

import torch
from torch import Tensor


def transforming() -> bool:
    """Whether any torch.func transform is active."""
    return bool(torch._C._are_functorch_transforms_active())


def transformed(x: Tensor) -> bool:
    """Whether x is a wrapper of a torch.func transform (vmap, grad, jvp)."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(x))
