"""Activation functions together with their slopes, which the closed forms of traces are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from flows.functorch import transforming


class Activation(NamedTuple):
    """y = σ(a); its slope s = σ'(a) from a and y; and what reaches a from gradients of y and s.

    ``pull(a, y, s, of_y, of_s)`` is s of_y + σ''(a) of_s, written over of_y and of_s: it is for
    backward passes without a graph. Slope and pull get None for a unless
    ``needs_input``, since keeping a for a backward pass costs as much memory as y does.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor | None, Tensor], Tensor]
    pull: Callable[..., Tensor]
    needs_input: bool = False


def tanh(a: Tensor) -> Tensor:
    """tanh(a), on the CPU as 2 σ(2a) - 1, for a fraction of the time that `torch.tanh` takes there.

    Its error is that of rounding a number near one, so the relative error grows towards a = 0.
    """
    if a.device.type != "cpu":
        return torch.tanh(a)
    if transforming():
        return 2 * torch.sigmoid(2 * a) - 1
    y: Tensor = _Tanh.apply(a) if a.requires_grad else _tanh(a)
    return y


def _tanh(a: Tensor) -> Tensor:
    return torch.rsub(torch.sigmoid_(a + a), -1, alpha=-2)


class _Tanh(torch.autograd.Function):
    """The same as one node of the graph, which goes back as `torch.tanh` does, any number of times.

    The context comes with the forward pass: otherwise torch inspects a signature at each call.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        y = _tanh(a)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> Tensor:
        pulled: Tensor = torch.ops.aten.tanh_backward(of_y, *ctx.saved_tensors)
        return pulled


def _tanh_slope(a: Tensor | None, y: Tensor) -> Tensor:
    return torch.addcmul(torch.ones((), dtype=y.dtype, device=y.device), y, y, value=-1)


def _pull_tanh(a: Tensor, y: Tensor, s: Tensor, of_y: Tensor, of_s: Tensor) -> Tensor:
    return of_y.addcmul_(y, of_s, value=-2).mul_(s)


def _softplus_slope(a: Tensor | None, y: Tensor) -> Tensor:
    return -torch.expm1(-y)


def _pull_softplus(a: Tensor, y: Tensor, s: Tensor, of_y: Tensor, of_s: Tensor) -> Tensor:
    return of_y.add_(of_s.mul_(1 - s)).mul_(s)


def _elu_slope(a: Tensor | None, y: Tensor) -> Tensor:
    return y.clamp(max=0) + 1


def _pull_elu(a: Tensor, y: Tensor, s: Tensor, of_y: Tensor, of_s: Tensor) -> Tensor:
    return of_y.add_(of_s.masked_fill_(y > 0, 0)).mul_(s)


def _swish_slope(a: Tensor | None, y: Tensor) -> Tensor:
    sigma = torch.sigmoid(a)  # type: ignore[arg-type]  # never None, by needs_input
    return y + sigma * (1 - y)


def _pull_swish(a: Tensor, y: Tensor, s: Tensor, of_y: Tensor, of_s: Tensor) -> Tensor:
    sigma = torch.sigmoid(a)
    return of_y.mul_(s).add_(of_s.mul_((1 - sigma) * (sigma + s - y * sigma)))


ActivationName = Literal["tanh", "softplus", "elu", "swish"]

ACTIVATIONS: dict[ActivationName, Activation] = {  # of named functions, which can be pickled
    "tanh": Activation(tanh, _tanh_slope, _pull_tanh),
    "softplus": Activation(F.softplus, _softplus_slope, _pull_softplus),
    "elu": Activation(F.elu, _elu_slope, _pull_elu),
    "swish": Activation(F.silu, _swish_slope, _pull_swish, needs_input=True),
}
