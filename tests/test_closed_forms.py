"""Parts of closed forms: traces of products, slopes of activations, layers of time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from continuous_fields import moved
from flows.continuous import MLPField
from flows.continuous.activations import ACTIVATIONS, tanh
from flows.continuous.time_layers import TIME
from flows.continuous.vector_fields import Link, trace_of

Normal = Callable[..., Tensor]


generated = settings(max_examples=60)


@generated
@given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    bare=st.lists(st.booleans(), min_size=5, max_size=5),
    seed=st.integers(0, 10**6),
)
def test_traces_of_products(widths: list[int], bare: list[bool], seed: int) -> None:
    """Any cyclic product, with or without slopes between its weights, as multiplied out."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    links: list[Link] = []
    for index, (n, m) in enumerate(zip(widths, [*widths[1:], widths[0]], strict=True)):
        links.append((draw(m, n), None if bare[index] and index else draw(3, m)))
    product = torch.eye(widths[0], dtype=torch.float64).expand(3, -1, -1)
    for weight, slopes in links:
        product = weight @ product
        product = product if slopes is None else slopes[:, :, None] * product
    expected = product.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace_of(links), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("dim", "hidden"), [(3, 40), (40, 5)])
@pytest.mark.parametrize("depth", [3, 4])
def test_the_cheapest_order_is_taken(dim: int, hidden: int, depth: int) -> None:
    """Products from the data's side or from a hidden layer's, whichever takes fewer operations."""
    rows, shapes = 100, []

    class Counted(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm):
                shapes.append(args[0].numel() * args[1].shape[-1])
            return func(*args, **(kwargs or {}))

    widths = [dim, *[hidden] * depth, dim]
    links: list[Link] = [
        (torch.randn(m, n), torch.randn(rows, m) if k < depth else None)
        for k, (n, m) in enumerate(itertools.pairwise(widths))
    ]
    with Counted():
        trace_of(links)
    from_data = rows * (depth - 1) * hidden**2 * dim
    from_hidden = rows * (depth - 2) * hidden**3 + dim * hidden**2
    closing = rows * hidden * max(dim, hidden) * 2
    assert sum(shapes) <= min(from_data, from_hidden) + closing


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_and_pulls(name: str, normal: Normal) -> None:
    """σ' is the derivative of σ, and a pull is what autograd brings to a through σ and σ'."""
    a = (2 * normal(40)).requires_grad_()
    activation = ACTIVATIONS[name]
    y = activation.value(a)
    s = activation.slope(a, y)
    torch.testing.assert_close(s, torch.autograd.grad(y.sum(), a, retain_graph=True)[0])
    assert torch.autograd.gradgradcheck(activation.value, (a,))
    of_y, of_s = normal(40, seed=1), normal(40, seed=2)
    (expected,) = torch.autograd.grad((y, s), a, (of_y, of_s))
    source = a.detach() if activation.needs_input else None
    with torch.no_grad():
        assert torch.equal(activation.value(a), y)
        pulled = activation.pull(source, y, s, of_y, of_s)
    torch.testing.assert_close(pulled, expected, atol=1e-14, rtol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_is_tanh(dtype: torch.dtype) -> None:
    """To rounding near one; the same bits with a graph, without, and within torch.func."""
    a = torch.cat([torch.linspace(-30, 30, 2001), torch.tensor([-1e30, 1e-30, 1e30])]).to(dtype)
    error = (tanh(a).double() - a.double().tanh()).abs().max()
    assert error <= 2 * torch.finfo(dtype).eps
    assert torch.equal(tanh(a.clone().requires_grad_()), tanh(a))
    assert torch.equal(torch.func.vmap(tanh)(a), tanh(a))
    assert bool(tanh(torch.tensor(torch.nan)).isnan())


@pytest.mark.parametrize("time", TIME)
def test_time_enters_by_its_formula(time: str, normal: Normal) -> None:
    """The folded map at one t is the layer's formula with that t in each row; gradients agree."""
    layer: Any = moved(TIME[time](4, 3))
    x = normal(5, 4)
    times = torch.rand(5, 1, dtype=torch.float64)
    rows = layer.of_rows(times, x)
    for index in range(5):
        weight, bias = layer.at(times[index, 0])
        torch.testing.assert_close(rows[index], weight @ x[index] + bias)
    field = moved(MLPField(4, hidden=6, time=time))
    together = field(times[:, 0], x)
    for index in range(5):
        torch.testing.assert_close(together[index], field(times[index, 0], x[index : index + 1])[0])


def test_gates_by_hand(normal: Normal) -> None:
    """squash, concatsquash and blend, computed from their parameters."""
    x, t = normal(5, 4), torch.full((5, 1), 0.3, dtype=torch.float64)
    layers: Any = {name: moved(TIME[name](4, 3)) for name in ("squash", "concatsquash", "blend")}
    for name in ("squash", "concatsquash"):
        layer = layers[name]
        gate = 1 / (1 + torch.exp(-(0.3 * layer.gate.weight[:, 0] + layer.gate.bias)))
        expected = (x @ layer.weight.T + layer.bias) * gate
        expected = expected + 0.3 * layer.shift if name == "concatsquash" else expected
        torch.testing.assert_close(layer.of_rows(t, x), expected)
    blend = layers["blend"]
    expected = 0.7 * blend.start(x) + 0.3 * blend.end(x)
    torch.testing.assert_close(blend.of_rows(t, x), expected)
