"""The node that has an MLP's value and trace: its derivatives, however they are asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.measure.operations import Operations
from flows.continuous import MLPField
from flows.continuous.activations import ACTIVATIONS

T = torch.tensor(0.3, dtype=torch.float64)
Normal = Callable[..., Tensor]


def _field(normal: Normal, **options: object) -> MLPField:
    field = MLPField(3, hidden=4, **options).double()  # type: ignore[arg-type]  # the options of one
    with torch.no_grad():
        for seed, parameter in enumerate(field.parameters()):
            parameter += 0.3 * normal(*parameter.shape, seed=seed)
    return field


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("time", ["concat", "concatsquash"])
@pytest.mark.parametrize(("depth", "context_dim"), [(1, 0), (2, 0), (2, 2)])
def test_derivatives(
    activation: str, time: str, depth: int, context_dim: int, normal: Normal
) -> None:
    """First and second ones in t, x, the context and every parameter, against differences."""
    field = _field(normal, depth=depth, activation=activation, time=time, context_dim=context_dim)
    names = [name for name, _ in field.named_parameters()]
    context = (normal(5, context_dim, seed=9),) if context_dim else ()
    inputs = (T, normal(5, 3), *context, *field.parameters())
    count = 2 + len(context)

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        return torch.func.functional_call(
            _Asked(field), {f"field.{n}": p for n, p in zip(names, tensors[count:], strict=True)},
            tensors[:count],
        )  # fmt: skip

    tracked = tuple(tensor.detach().clone().requires_grad_() for tensor in inputs)
    assert torch.autograd.gradcheck(call, tracked, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, tracked, fast_mode=True)


class _Asked(torch.nn.Module):
    def __init__(self, field: MLPField) -> None:
        super().__init__()
        self.field = field

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.field.with_trace(*inputs)


@pytest.mark.parametrize("depth", [1, 2])
def test_each_gradient_alone(depth: int, normal: Normal) -> None:
    """What is frozen gets no gradient, and the others get what they get when nothing is."""
    field, x = _field(normal, depth=depth), normal(5, 3).requires_grad_()
    tensors = [x, *field.parameters()]

    def objective() -> Tensor:
        dx, trace = field.with_trace(T, x)
        return dx.square().sum() + trace.sin().sum()

    expected = torch.autograd.grad(objective(), tensors)
    for tensor, gradient in zip(tensors, expected, strict=True):
        for other in tensors:
            other.requires_grad_(other is tensor)
        torch.testing.assert_close(torch.autograd.grad(objective(), tensor)[0], gradient)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 2])
def test_a_trace_without_weight_costs_nothing(depth: int, activation: str, normal: Normal) -> None:
    """Where its gradient is zero the others are the field's own, for the field's own products."""
    field, x = _field(normal, depth=depth, activation=activation), normal(5, 3).requires_grad_()
    tensors, weights, gradients, flops = [x, *field.parameters()], normal(5, 3, seed=4), [], []
    for with_trace in (True, False):
        dx, trace = field.with_trace(T, x) if with_trace else (field(T, x), torch.zeros(()))
        with Operations() as counted:
            gradients.append(torch.autograd.grad((dx * weights).sum() + 0 * trace.sum(), tensors))
        flops.append(counted.flops)
    torch.testing.assert_close(*gradients, atol=1e-13, rtol=1e-13)
    shared = 0 if depth == 1 else 3 * 2 * 3 * 4**2  # of the products of weights, once a solve
    assert flops[0] <= flops[1] + shared
    dx, trace = field.with_trace(T, x)
    batched = torch.autograd.grad(dx, x, torch.stack([weights, -weights]), is_grads_batched=True)
    torch.testing.assert_close(batched[0], torch.stack([gradients[1][0], -gradients[1][0]]))


@pytest.mark.parametrize("depth", [1, 2])
def test_within_torch_func(depth: int, normal: Normal) -> None:
    """Row by row, in forward mode and with stacked parameters: the same numbers."""
    field, x = _field(normal, depth=depth), normal(5, 3)
    with torch.no_grad():
        dx, trace = field.with_trace(T, x)
    jacobian = torch.func.vmap(torch.func.jacfwd(lambda row: field.with_trace(T, row[None])[0][0]))
    torch.testing.assert_close(jacobian(x).diagonal(dim1=1, dim2=2).sum(1), trace)
    gradient = torch.func.grad(lambda x: field.with_trace(T, x)[1].sum())(x)
    tracked = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(field.with_trace(T, tracked)[1].sum(), tracked)
    torch.testing.assert_close(gradient, expected)
    stacked = {f"field.{n}": torch.stack([p, 2 * p]) for n, p in field.named_parameters()}
    both = torch.func.vmap(
        lambda parameters: torch.func.functional_call(_Asked(field), parameters, (T, x))
    )(stacked)
    torch.testing.assert_close(both[0][0], dx)
    torch.testing.assert_close(both[1][0], trace)
