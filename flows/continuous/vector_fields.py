"""Vector fields: MLPs f(t, x) whose trace is known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Ignore(nn.Linear):
    """W x + b, whatever t is."""

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (out, in) and bias (out,) in force at time t."""
        return self.weight, self.bias


class Concat(nn.Linear):
    """W x + b + v t: a linear layer of x and t together."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.shift = nn.Parameter(torch.empty(outputs).uniform_(-1, 1) / (inputs + 1) ** 0.5)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (out, in) and bias (out,) in force at time t."""
        return self.weight, self.bias + self.shift * t


class ConcatSquash(Concat):
    """(W x + b) σ(a t + c) + v t."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.gate = nn.Linear(1, outputs)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (out, in) and bias (out,) in force at time t."""
        gate = torch.sigmoid(self.gate(t.reshape(1)))
        return self.weight * gate[:, None], self.bias * gate + self.shift * t


TIME: dict[str, type[Ignore] | type[Concat]] = {
    "ignore": Ignore,
    "concat": Concat,
    "concatsquash": ConcatSquash,
}

# name: the function, and its derivative from the input a and the output y
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "tanh": (torch.tanh, lambda a, y: 1 - y * y),
    "softplus": (F.softplus, lambda a, y: torch.sigmoid(a)),
    "elu": (F.elu, lambda a, y: torch.where(a > 0, torch.ones_like(a), y + 1)),
    "swish": (F.silu, lambda a, y: y + torch.sigmoid(a) * (1 - y)),
}


class MLPField(nn.Module):
    """dx/dt = f(t, x): an MLP with ``depth`` hidden layers of width ``hidden``.

    ``time`` says how t enters each layer: "ignore", "concat" or "concatsquash" (Grathwohl et al.,
    FFJORD, 2018, arXiv:1810.01367, and its released code). At any one t every layer is an affine
    map, so its trace has one closed form for all of them. A context (N, C) enters the first layer
    as a bias and leaves the form as it is.
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 64,
        depth: int = 2,
        activation: str = "tanh",
        time: str = "concat",
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        for kind, name, table in (("time", time, TIME), ("activation", activation, ACTIVATIONS)):
            if name not in table:
                raise ValueError(f"unknown {kind} {name!r}; choose from: {', '.join(table)}")
        if min(dim, hidden, depth) < 1:
            raise ValueError(f"dim, hidden and depth start at 1, got {dim}, {hidden}, {depth}")
        self.dim, self.hidden, self.depth = dim, hidden, depth
        widths = [dim] + [hidden] * depth + [dim]
        self.layers: Any = nn.ModuleList(TIME[time](n, m) for n, m in pairwise(widths))
        self.context: nn.Linear | None = (
            nn.Linear(context_dim, hidden, bias=False) if context_dim else None
        )
        self.activation, self.slope = ACTIVATIONS[activation]

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """dx/dt (N, D) at time t (a scalar) and x (N, D)."""
        return self._evaluate(t, x, context)[0]

    def with_trace(
        self, t: Tensor, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """dx/dt (N, D) and the exact trace of its Jacobian (N,), for about one more product.

        One hidden layer: Σ_h s_h (W₁ ∘ W₂ᵀ 1)_h, O(N H). Two: Σ_ij s₂_i M_ij s₁_j with
        M = W₂ ∘ (W₁ W₃)ᵀ, O(N H² + D H²). More: a product per further layer from the narrower
        of R^D and R^H, O(N H² min(D, H)).
        """
        dx, slopes, weights = self._evaluate(t, x, context)
        first, last = weights[0], weights[-1]
        if self.depth == 1:
            return dx, slopes[0] @ (first * last.T).sum(1)
        if self.depth == 2:
            paths = weights[1] * (first @ last).T
            return dx, ((slopes[1] @ paths) * slopes[0]).sum(1)
        narrow = self.dim <= self.hidden
        product = slopes[0][:, :, None] * (first if narrow else first @ last)
        for slope, weight in zip(slopes[1:-1], weights[1:-2], strict=True):
            product = slope[:, :, None] * (weight @ product)
        inner = weights[-2] @ product if narrow else None
        if inner is not None:  # (N, H, D): close with the last weight
            return dx, torch.einsum("nh,nhd,dh->n", slopes[-1], inner, last)
        return dx, torch.einsum("nh,hg,ngh->n", slopes[-1], weights[-2], product)

    def _evaluate(
        self, t: Tensor, x: Tensor, context: Tensor | None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The value, the slope of each hidden layer (N, H), and the weights at time t."""
        if (context is None) != (self.context is None):
            takes = "takes no context" if self.context is None else "needs a context"
            raise ValueError(f"this MLPField {takes}: context_dim decides, at construction")
        affine = [layer.at(t) for layer in self.layers]
        slopes = []
        for index, (weight, bias) in enumerate(affine[:-1]):
            a = F.linear(x, weight, bias)
            if index == 0 and self.context is not None:
                a = a + self.context(context)
            x = self.activation(a)
            slopes.append(self.slope(a, x))
        return F.linear(x, *affine[-1]), slopes, [weight for weight, _ in affine]
