"""Activations with their slopes; an MLP of one or two hidden layers with its trace, as one node.

Left to autograd, the slopes take several passes over the batch forward and back, and are kept in
memory beside the values that they are functions of. Here the backward pass is written out: it keeps
the values alone, and makes the two or three further products that the chain rule needs. Where the
gradient of a trace is zero, as in the second of a step's stages by dopri5, which has no weight in
the integral, it leaves the trace out.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flows.bijection import Pair, concrete
from flows.functorch import compiling, transforming


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
    return _Tanh.apply(a) if a.requires_grad else _tanh(a)


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
        return torch.ops.aten.tanh_backward(of_y, *ctx.saved_tensors)


def _swish_slope(a: Tensor | None, y: Tensor) -> Tensor:
    sigma = torch.sigmoid(a)  # type: ignore[arg-type]  # never None, by needs_input
    return y + sigma * (1 - y)


def _pull_swish(a: Tensor, y: Tensor, s: Tensor, of_y: Tensor, of_s: Tensor) -> Tensor:
    sigma = torch.sigmoid(a)
    return of_y.mul_(s).add_(of_s.mul_((1 - sigma) * (sigma + s - y * sigma)))


ActivationName = Literal["tanh", "softplus", "elu", "swish"]

ACTIVATIONS: dict[ActivationName, Activation] = {
    "tanh": Activation(
        tanh,
        lambda a, y: torch.addcmul(torch.ones((), dtype=y.dtype, device=y.device), y, y, value=-1),
        lambda a, y, s, of_y, of_s: of_y.addcmul_(y, of_s, value=-2).mul_(s),
    ),
    "softplus": Activation(
        F.softplus,
        lambda a, y: -torch.expm1(-y),
        lambda a, y, s, of_y, of_s: of_y.add_(of_s.mul_(1 - s)).mul_(s),
    ),
    "elu": Activation(
        F.elu,
        lambda a, y: y.clamp(max=0) + 1,
        lambda a, y, s, of_y, of_s: of_y.add_(of_s.masked_fill_(y > 0, 0)).mul_(s),
    ),
    "swish": Activation(F.silu, _swish_slope, _pull_swish, needs_input=True),
}


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x Wᵀ + b with b (out,), or (N, out) where each row has its own."""
    return F.linear(x, weight, bias) if bias.dim() == 1 else F.linear(x, weight) + bias


def check_context(field: nn.Module, context: Tensor | None, takes: bool) -> None:
    """ValueError for a context that a field does not take, or for none where it needs one."""
    if (context is not None) != takes:
        rule = "needs a context" if takes else "takes no context"
        name = type(field).__name__
        raise ValueError(f"this {name} {rule}: context_dim decides, at construction")


def paths(weights: Sequence[Tensor]) -> Tensor:
    """What the trace needs of the weights, first to last, whatever the batch: (H,), or (H₂, H₁).

    With one hidden layer the trace is Σ_i p_i s_i; with two Σ_ij s₂_i P_ij s₁_j, where
    P = W₂ ∘ (W₁ W₃)ᵀ has the products of weights along each closed path through both layers.
    """
    first, *middle, last = weights
    return middle[0] * (first @ last).T if middle else (first * last.T).sum(1)


def value_and_trace(
    activation: Activation, x: Tensor, paths: Tensor, layers: Sequence[Pair]
) -> Pair:
    """The MLP's value (N, D) and its trace (N,), from the weight and bias of each layer."""
    inputs = (x, paths, *(tensor for layer in layers for tensor in layer))
    if transforming() or not torch.is_grad_enabled():
        return _forward(activation, *inputs)[0]
    value, trace = _Node.apply(activation, *inputs)
    return value, trace


def _forward(
    activation: Activation, x: Tensor, paths: Tensor, *parameters: Tensor
) -> tuple[Pair, list[Tensor | None]]:
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
    narrow = not compiling() and weight.shape[0] < min(y.shape)
    value = torch.addmm(bias.unsqueeze(1), weight, y.T).T if narrow else F.linear(y, weight, bias)
    if len(hidden) == 1:
        return (value, slopes[0] @ paths), [None, *residuals]
    through = slopes[1] @ paths
    return (value, (through * slopes[0]).sum(1)), [through, *residuals]


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Activation, *inputs: Tensor) -> Pair:
        result, residuals = _forward(activation, *inputs)
        ctx.activation, ctx.inputs = activation, len(inputs)
        ctx.save_for_backward(*inputs, *residuals)
        return result

    @staticmethod
    def backward(ctx: Any, of_value: Tensor, of_trace: Tensor) -> Any:
        activation: Activation = ctx.activation
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        inputs, (through, *layers) = saved[: ctx.inputs], saved[ctx.inputs :]
        if torch.is_grad_enabled():
            return None, *_backward_with_graph(activation, inputs, needed, (of_value, of_trace))
        x, paths, *parameters = inputs
        passed, values = layers[::2], layers[1::2]  # a, where it was kept, and y
        slopes = [activation.slope(a, y) for a, y in zip(passed, values, strict=True)]
        of_row = of_trace[:, None]
        of_slopes: list[Tensor] = []
        gradients: list[Tensor | None] = [None] * len(inputs)
        if of_trace.device.type == "cpu" and concrete(of_trace) and not bool(of_trace.any()):
            pass  # zero; elsewhere the answer would synchronise a device
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
                below, of_y = layer - 1, of_a @ inputs[weight]
                a, y, slope = passed[below], values[below], slopes[below]
                if of_slopes:
                    of_a = activation.pull(a, y, slope, of_y, of_slopes[below])
                else:
                    of_a = of_y.mul_(slope)
            elif needed[0]:
                gradients[0] = _product(of_a, inputs[weight])
        return None, *gradients


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b of (n, k) and (k, m), as a product with the narrower one on the left: far faster."""
    return a @ b if a.shape[0] <= b.shape[1] else (b.T @ a.T).T


def _backward_with_graph(
    activation: Activation, inputs: tuple[Tensor, ...], needed: tuple[bool, ...], of_results: Pair
) -> list[Tensor | None]:
    """Gradients with a graph, for second derivatives: autograd on the plain operations.

    The inputs are views, since some depend on others: each gets its own share alone.
    """
    views = [tensor.view_as(tensor) for tensor in inputs]
    results, _ = _forward(activation, *views)
    targets = [view for view, need in zip(views, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(results, targets, of_results, create_graph=True))
    return [next(gradients) if need else None for need in needed]
