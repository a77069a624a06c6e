"""An MLP with one or two hidden layers and the trace of its Jacobian, as one node of the graph.

Left to autograd, the slopes take several passes over the batch forward and back, and are kept in
memory beside the values that they are functions of. Here the backward pass is written out: it keeps
the values alone, and makes the two or three further products that the chain rule needs. Where the
gradient of a trace is zero, as in the second of a step's stages by dopri5, which has no weight in
the integral, it leaves the trace out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from flows.bijection import concrete
from flows.continuous.activations import Activation
from flows.functorch import transforming


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x Wᵀ + b with b (out,), or (N, out) where each row has its own."""
    return F.linear(x, weight, bias) if bias.dim() == 1 else F.linear(x, weight) + bias


def paths(weights: Sequence[Tensor]) -> Tensor:
    """What the trace needs of the weights, first to last, whatever the batch: (H,), or (H₂, H₁).

    With one hidden layer the trace is Σ_i p_i s_i; with two Σ_ij s₂_i P_ij s₁_j, where
    P = W₂ ∘ (W₁ W₃)ᵀ has the products of weights along each closed path through both layers.
    """
    first, *middle, last = weights
    return middle[0] * (first @ last).T if middle else (first * last.T).sum(1)


def value_and_trace(
    activation: Activation, x: Tensor, paths: Tensor, layers: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """The MLP's value (N, D) and its trace (N,), from the weight and bias of each layer."""
    inputs = (x, paths, *(tensor for layer in layers for tensor in layer))
    if transforming() or not torch.is_grad_enabled():
        return _forward(activation, *inputs)[0]
    value, trace = _Node.apply(activation, *inputs)
    return value, trace


def _forward(
    activation: Activation, x: Tensor, paths: Tensor, *parameters: Tensor
) -> tuple[tuple[Tensor, Tensor], list[Tensor | None]]:
    """The result; and what the backward pass needs: s₂ᵀM (N, H₁), and a and y of each layer."""
    *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
    residuals: list[Tensor | None] = []
    slopes, y = [], x
    for weight, bias in hidden:
        a = affine(y, weight, bias)
        y = activation.value(a)
        slopes.append(activation.slope(a, y))
        residuals += [a if activation.needs_input else None, y]
    weight, bias = last
    # the faster way of the two in eager code; compiled, a branch would be a version more
    narrow = not torch.compiler.is_compiling() and weight.shape[0] < min(y.shape)
    value = torch.addmm(bias.unsqueeze(1), weight, y.T).T if narrow else F.linear(y, weight, bias)
    if len(hidden) == 1:
        return (value, slopes[0] @ paths), [None, *residuals]
    through = slopes[1] @ paths
    return (value, (through * slopes[0]).sum(1)), [through, *residuals]


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Activation, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        result, residuals = _forward(activation, *inputs)
        ctx.activation, ctx.inputs = activation, len(inputs)
        ctx.save_for_backward(*inputs, *residuals)
        return result

    @staticmethod
    def backward(ctx: Any, of_value: Tensor, of_trace: Tensor) -> Any:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        inputs, residuals = saved[: ctx.inputs], saved[ctx.inputs :]
        if torch.is_grad_enabled():
            return None, *_backward_with_graph(ctx.activation, inputs, needed, (of_value, of_trace))
        return None, *_backward(ctx.activation, inputs, needed, residuals, of_value, of_trace)


def _backward(
    activation: Activation,
    inputs: tuple[Tensor, ...],
    needed: tuple[bool, ...],
    residuals: tuple[Any, ...],
    of_value: Tensor,
    of_trace: Tensor,
) -> list[Tensor | None]:
    """Gradients of the inputs that are ``needed``, from those of value (N, D) and trace (N,)."""
    x, paths, *parameters = inputs
    through, *layers = residuals
    passed, values = layers[::2], layers[1::2]  # a, where it was kept, and y
    slopes = [activation.slope(a, y) for a, y in zip(passed, values, strict=True)]
    of_row = of_trace[:, None]
    of_slopes: list[Tensor] = []
    gradients: list[Tensor | None] = [None] * len(inputs)
    if _vanishes(of_trace):
        pass
    elif through is None:
        of_slopes = [of_row * paths]
        gradients[1] = of_trace @ slopes[0] if needed[1] else None
    else:
        weighted = of_row * slopes[0]
        of_slopes = [of_row * through, weighted @ paths.T]
        gradients[1] = slopes[1].T @ weighted if needed[1] else None
    of_a = of_value
    for layer in reversed(range(len(parameters) // 2)):
        weight, bias = 2 + 2 * layer, 3 + 2 * layer
        if needed[weight]:
            gradients[weight] = _product(of_a.T, values[layer - 1] if layer else x)
        if needed[bias]:
            gradients[bias] = of_a.sum(0) if inputs[bias].dim() == 1 else of_a
        if layer:
            below = layer - 1
            of_y, slope = of_a @ inputs[weight], slopes[below]
            if of_slopes:
                of_a = activation.pull(passed[below], values[below], slope, of_y, of_slopes[below])
            else:
                of_a = of_y.mul_(slope)
        elif needed[0]:
            gradients[0] = _product(of_a, inputs[weight])
    return gradients


def _vanishes(gradient: Tensor) -> bool:
    """Whether a gradient is zero; False where the answer would synchronise a device."""
    return gradient.device.type == "cpu" and concrete(gradient) and not bool(gradient.any())


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b of (n, k) and (k, m), as a product with the narrower one on the left: far faster."""
    return a @ b if a.shape[0] <= b.shape[1] else (b.T @ a.T).T


def _backward_with_graph(
    activation: Activation,
    inputs: tuple[Tensor, ...],
    needed: tuple[bool, ...],
    of_results: tuple[Tensor, Tensor],
) -> list[Tensor | None]:
    """Gradients with a graph, for second derivatives: autograd on the plain operations.

    The inputs are views, since some depend on others: each gets its own share alone.
    """
    views = [tensor.view_as(tensor) for tensor in inputs]
    results, _ = _forward(activation, *views)
    targets = [view for view, need in zip(views, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(results, targets, of_results, create_graph=True))
    return [next(gradients) if need else None for need in needed]
