"""Activation functions together with their slopes, which the closed forms of traces are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Activation(NamedTuple):
    """y = σ(a); its slope s = σ'(a) from a and y; and what reaches a from gradients of y and s.

    ``pull(a, y, s, of_y, of_s)`` is s of_y + σ''(a) of_s. It is given a only where it ``looks`` at
    it, since keeping a for a backward pass costs as much memory as y or s does.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    pull: Callable[..., Tensor]
    looks: bool = False

    def with_slope(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """σ(a) and σ'(a), both of the shape of a."""
        if torch.is_grad_enabled() and a.requires_grad:
            y, s = _WithSlope.apply(a, self)
            return y, s
        y = self.value(a)
        return y, self.slope(a, y)


class _WithSlope(torch.autograd.Function):
    """Value and slope as one node: left to autograd, the slope of tanh takes five passes back."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
        y = activation.value(a)
        return y, activation.slope(a, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        a, ctx.activation = inputs
        kept = (a if ctx.activation.looks else None, *output)
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)

    @staticmethod
    def backward(ctx: Any, of_y: Tensor, of_s: Tensor) -> Any:
        return ctx.activation.pull(*ctx.saved_tensors, of_y, of_s), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: Any) -> Any:
        a, y, s = ctx.saved_tensors
        return s * tangent, ctx.activation.pull(a, y, s, torch.zeros_like(s), tangent)


def _one_minus_square(y: Tensor) -> Tensor:
    return torch.addcmul(torch.ones((), dtype=y.dtype, device=y.device), y, y, value=-1)


def _pull_swish(a: Tensor, y: Tensor, s: Tensor, of_y: Tensor, of_s: Tensor) -> Tensor:
    sigma = torch.sigmoid(a)
    return s * of_y + (1 - sigma) * (sigma + s - y * sigma) * of_s


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(
        torch.tanh,
        lambda a, y: _one_minus_square(y),
        lambda a, y, s, of_y, of_s: s * torch.addcmul(of_y, y, of_s, value=-2),
    ),
    "softplus": Activation(
        F.softplus,
        lambda a, y: torch.sigmoid(a),
        lambda a, y, s, of_y, of_s: s * (of_y + (1 - s) * of_s),
    ),
    "elu": Activation(
        F.elu,
        lambda a, y: torch.where(a > 0, torch.ones_like(a), y + 1),
        lambda a, y, s, of_y, of_s: s * (of_y + torch.where(y > 0, 0, of_s)),
    ),
    "swish": Activation(
        F.silu, lambda a, y: y + torch.sigmoid(a) * (1 - y), _pull_swish, looks=True
    ),
}
