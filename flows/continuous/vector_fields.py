"""Vector fields: MLPs f(t, x) whose trace is known in closed form, whole or with a bottleneck.

Their layers are affine maps of x whose weights may depend on time, of a kind in `TIME`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flows.bijection import Pair
from flows.continuous import shallow
from flows.continuous.shallow import ACTIVATIONS, Activation, ActivationName, affine
from flows.registry import check_choice, check_whole


class TimeLayer(nn.Linear):
    """(W x + b) σ(a t + c) + v t: its gate σ where ``gated``, its v t where ``shifted``.

    At any one t it is an affine map of x, as each kind in `TIME` is: ``at(t)`` is its weight
    (out, in) and bias (out,). ``of_rows(t, x)``, (N, in) -> (N, out), has a time (N, 1) for each
    row. ``steady`` says that the weight is the same at every t.
    """

    def __init__(
        self, inputs: int, outputs: int, *, shifted: bool = False, gated: bool = False
    ) -> None:
        super().__init__(inputs, outputs)
        self.steady = not gated
        self.shift: nn.Parameter | None = None
        if shifted:
            start = torch.empty(outputs).uniform_(-1, 1) / (inputs + 1) ** 0.5
            self.shift = nn.Parameter(start)
        self.gate = nn.Linear(1, outputs) if gated else None

    def at(self, t: Tensor) -> Pair:
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if self.gate is not None:
            gate = torch.sigmoid(self.gate(t.reshape(1)))
            weight, bias = weight * gate[:, None], bias * gate
        return weight, bias if self.shift is None else bias + self.shift * t

    def of_rows(self, t: Tensor, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight, self.bias)
        y = y if self.gate is None else y * torch.sigmoid(self.gate(t))
        return y if self.shift is None else y + self.shift * t


class Hyper(nn.Module):
    """W(t) x + b(t): all weights are the output of a small network of t.

    Its last layer starts without weight, so that W and b start as those of a linear layer.
    """

    steady = False

    def __init__(self, inputs: int, outputs: int, width: int = 8) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.net = nn.Sequential(
            nn.Linear(1, width), nn.Tanh(), nn.Linear(width, outputs * (inputs + 1))
        )
        last = self.net[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]  # a Linear
        nn.init.uniform_(last.bias, -(inputs**-0.5), inputs**-0.5)  # type: ignore[arg-type]  # too

    def at(self, t: Tensor) -> Pair:
        """As of a `TimeLayer`, with a leading N for t (N, 1)."""
        weights = self.net(t.reshape(-1, 1)).unflatten(1, (self.outputs, self.inputs + 1))
        weights = weights if t.dim() else weights[0]
        return weights[..., :-1], weights[..., -1]

    def of_rows(self, t: Tensor, x: Tensor) -> Tensor:
        weight, bias = self.at(t)
        return (weight @ x[:, :, None])[..., 0] + bias


class Blend(nn.Module):
    """(1 - t) (W₀ x + b₀) + t (W₁ x + b₁): from one linear layer at t = 0 to another at t = 1."""

    steady = False

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.start, self.end = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def at(self, t: Tensor) -> Pair:
        start, end = self.start, self.end
        return torch.lerp(start.weight, end.weight, t), torch.lerp(start.bias, end.bias, t)

    def of_rows(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.lerp(self.start(x), self.end(x), t)


TimeName = Literal["ignore", "concat", "squash", "concatsquash", "hyper", "blend"]

# How t enters a layer: the kinds of FFJORD's released code (Grathwohl et al., FFJORD, 2018,
# arXiv:1810.01367).
TIME: dict[TimeName, Callable[[int, int], nn.Module]] = {
    "ignore": TimeLayer,
    "concat": partial(TimeLayer, shifted=True),
    "squash": partial(TimeLayer, gated=True),
    "concatsquash": partial(TimeLayer, shifted=True, gated=True),
    "hyper": Hyper,
    "blend": Blend,
}


Link = tuple[Tensor, Tensor | None]  # a weight (out, in), and the slopes (N, out) after it


def trace_of(links: Sequence[Link]) -> Tensor:
    """Trace (N,) of the product of ``links``, the first of which is applied first.

    Two links or more have slopes. With two: Σ_ij s₂_i M_ij s₁_j with M = W₂ ∘ (W₁ W₃)ᵀ, O(N H²).
    With more: from the cyclic shift that takes the fewest operations. The products of weights do
    not depend on N.
    """
    slopes = [between for _, between in links if between is not None]
    if len(slopes) > 2:
        rotations = [[*links[start:], *links[:start]] for start in range(len(links))]
        return _close(_fused(min(rotations, key=_operations)))
    start = max(index for index, (_, slope) in enumerate(links, 1) if slope is not None)
    (first, _), (second, _) = _fused([*links[start:], *links[:start]])
    return ((slopes[1] @ (second * first.T)) * slopes[0]).sum(1)


def _groups(links: Sequence[Link]) -> list[Sequence[Link]]:
    """Runs of links without slopes between them."""
    ends = [index for index, (_, slopes) in enumerate(links, 1) if slopes is not None]
    bounds = pairwise([0, *ends, len(links)])
    return [links[first:end] for first, end in bounds if first < end]


def _operations(links: Sequence[Link]) -> int:
    """Multiplications of `_close` for all rows, and of the weights that are fused beforehand."""
    groups = _groups(links)
    width = links[0][0].shape[1]
    rows = len(next(slopes for _, slopes in links if slopes is not None))
    shared = sum(group[0][0].shape[1] * w.numel() for group in groups for w, _ in group[1:])
    inner = sum(group[-1][0].shape[0] * group[0][0].shape[1] * width for group in groups[1:-1])
    return rows * inner + shared


def _fused(links: Sequence[Link]) -> list[Link]:
    """Each run of links without slopes between them as one link."""
    products = ((reduce(lambda w, v: v @ w, [w for w, _ in run]), run) for run in _groups(links))
    return [(product, run[-1][1]) for product, run in products]


def _close(links: Sequence[Any]) -> Tensor:
    """Trace (N,) of three fused links or more, of which the last may be without slopes."""
    (first, slopes), *inner, (last, closing) = links
    product = slopes[:, :, None] * first
    for weight, between in inner:
        product = between[:, :, None] * (weight @ product)
    if closing is None:
        return torch.einsum("ij,nji->n", last, product)
    return (closing * torch.einsum("ij,nji->ni", last, product)).sum(1)


class MLP(nn.Module):
    """An MLP of t and x with the given ``widths``, from the input's to the output's.

    ``time`` says how t enters each layer (`TIME`); a context (N, C) enters the first as a bias.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        activation: ActivationName = "tanh",
        time: TimeName = "concat",
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        check_choice("time", time, TIME)
        check_choice("activation", activation, ACTIVATIONS)
        self.layers: Any = nn.ModuleList(TIME[time](n, m) for n, m in pairwise(widths))
        self.context = nn.Linear(context_dim, widths[1], bias=False) if context_dim else None
        self.kind: ActivationName = activation

    @property
    def activation(self) -> Activation:
        """Looked up, so that a field can be pickled."""
        return ACTIVATIONS[self.kind]

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, in) -> (N, out) at time t: a scalar, or (N,) with one for each row."""
        if not t.dim():
            first, *more = self.at(t, context)
            x = affine(x, *first)
            for layer in more:
                x = affine(self.activation.value(x), *layer)
            return x
        bias = self._bias(context)
        for index, layer in enumerate(self.layers):
            x = x if index == 0 else self.activation.value(x)
            x = layer.of_rows(t[:, None], x)
            x = x if index or bias is None else x + bias
        return x

    def at(self, t: Tensor, context: Tensor | None = None) -> list[Pair]:
        """Weight and bias of each layer at a scalar t; with a context the first's is (N, H)."""
        shift = self._bias(context)
        (weight, bias), *more = [layer.at(t) for layer in self.layers]
        return [(weight, bias if shift is None else bias + shift), *more]

    def linked(
        self, t: Tensor, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, list[Link]]:
        """The value (N, out) at a scalar t, and the links whose product is the Jacobian."""
        *hidden, last = self.at(t, context)
        links: list[Link] = []
        for weight, bias in hidden:
            a = affine(x, weight, bias)
            x = self.activation.value(a)
            links.append((weight, self.activation.slope(a, x)))
        return affine(x, *last), [*links, (last[0], None)]

    def linearized(
        self, t: Tensor, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The value (N, out) at a scalar t, and the map of v (..., N, in) to ∂f/∂x v."""
        value, links = self.linked(t, x, context)

        def push(v: Tensor) -> Tensor:
            for weight, slopes in links:
                v = F.linear(v, weight)
                v = v if slopes is None else v * slopes
            return v

        return value, push

    def _bias(self, context: Tensor | None) -> Tensor | None:
        shallow.check_context(self, context, self.context is not None)
        return None if self.context is None else self.context(context)


class MLPField(MLP):
    """dx/dt = f(t, x): an MLP with ``depth`` hidden layers of width ``hidden``.

    The other options are those of `MLP`: ``time`` is one of ignore, concat, squash, concatsquash,
    hyper, blend (Grathwohl et al., FFJORD, 2018, arXiv:1810.01367, and its released code),
    ``activation`` one of tanh, softplus, elu, swish. At any one t every layer is an affine map, so
    there is one closed form of the trace for all of them, and a context, which is a bias, leaves it
    as it is.
    """

    def __init__(self, dim: int, *, hidden: int = 64, depth: int = 2, **options: Any) -> None:
        check_whole(dim=dim, hidden=hidden, depth=depth)
        super().__init__([dim, *[hidden] * depth, dim], **options)
        self.dim = dim

    def with_trace(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Pair:
        """dx/dt (N, D) and the exact trace of its Jacobian (N,), for about one more product.

        One hidden layer: O(N H). Two: O(N H² + D H²). More: O(N H² min(D, H)) for each.
        """
        if len(self.layers) > 3:
            dx, links = self.linked(t, x, context)
            return dx, trace_of(links)
        layers = self.at(t, context)
        kept = self._buffers
        if (paths := kept.get("paths")) is None:
            paths = shallow.paths([weight for weight, _ in layers])
            if "paths" in kept:  # in a view for one solve
                kept["paths"] = paths
        return shallow.value_and_trace(self.activation, x, paths, layers)

    def for_solve(self) -> MLPField:
        """A view for one solve, in which products of weights that t does not change are kept.

        They have a graph: no field for an adjoint, which takes a new one at each evaluation.
        """
        if not all(layer.steady for layer in self.layers):
            return self
        view = copy.copy(self)
        view._buffers = {**self._buffers, "paths": None}  # a compiled loop has buffers as inputs
        return view


class BottleneckField(nn.Module):
    """dx/dt = g(t, h(t, x)): an ``encoder`` h to R^K and a ``decoder`` g back to R^D.

    Either is a module f(t, x, context). The Jacobian has rank K at most, and its trace is that of
    the K × K matrix ∂h/∂x ∂g/∂h, which trace="bottleneck" estimates (Grathwohl et al., FFJORD,
    2018, arXiv:1810.01367, section 3.1.1).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, dim: int, bottleneck: int) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.dim, self.bottleneck = dim, bottleneck

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """dx/dt (N, D) at time t (a scalar, or (N,)) and x (N, D)."""
        return self.decoder(t, self.encoder(t, x, context), context)


class BottleneckMLPField(BottleneckField):
    """A `BottleneckField` of two MLPs, each of ``depth`` hidden layers of width ``hidden``.

    The other options are those of `MLPField`. The trace is known in closed form.
    """

    def __init__(
        self, dim: int, *, bottleneck: int, hidden: int = 64, depth: int = 1, **options: Any
    ) -> None:
        check_whole(dim=dim, bottleneck=bottleneck, hidden=hidden, depth=depth)
        inner = [hidden] * depth
        encoder = MLP([dim, *inner, bottleneck], **options)
        super().__init__(encoder, MLP([bottleneck, *inner, dim], **options), dim, bottleneck)

    def with_trace(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Pair:
        """dx/dt (N, D) and the exact trace of its Jacobian (N,)."""
        encoder: Any = self.encoder
        decoder: Any = self.decoder
        inner, links = encoder.linked(t, x, context)
        dx, more = decoder.linked(t, inner, context)
        return dx, trace_of([*links, *more])
