"""Private queries of torch about function transforms, in one place."""

from __future__ import annotations

import torch
from torch import Tensor


def transforming() -> bool:
    """Whether any torch.func transform is active, or torch.compile captures operators."""
    return torch.compiler.is_compiling() or bool(torch._C._are_functorch_transforms_active())


def transformed(x: Tensor) -> bool:
    """Whether x is a wrapper of a torch.func transform (vmap, grad, jvp), or of torch.compile."""
    return torch.compiler.is_compiling() or bool(torch._C._functorch.is_functorch_wrapped_tensor(x))


def differentiating_forward() -> bool:
    """Whether forward-mode differentiation is active (torch.autograd.forward_ad)."""
    return torch.autograd.forward_ad._current_level >= 0
