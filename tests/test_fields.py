"""MLP fields and the fields of users: values, closed forms, and the estimates of traces."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from continuous_fields import DOPRI5, Linear, Rowwise, at_times, mlp_field, rate_of
from flows import Flow
from flows.continuous import CNF
from flows.continuous.activations import ACTIVATIONS
from flows.continuous.time_layers import TIME

Normal = Callable[..., Tensor]

generated = settings(max_examples=60, deadline=None, derandomize=True, database=None)


FIELDS = {
    "dim": st.integers(1, 6),
    "hidden": st.integers(1, 9),
    "depth": st.integers(1, 3),
    "activation": st.sampled_from(sorted(ACTIVATIONS)),
    "time": st.sampled_from(sorted(TIME)),
    "context_dim": st.integers(0, 2),
}


@generated
@given(options=st.fixed_dictionaries(FIELDS), seed=st.integers(0, 10**6))
def test_traces_agree(options: dict[str, Any], seed: int) -> None:
    """Closed form, loop and Jacobian agree to rounding, for narrow and wide fields of any kind."""
    field = mlp_field(seed=seed, **options)
    dim, width = options["dim"], options["context_dim"]
    x = 2 * torch.randn(4, dim, dtype=torch.float64)
    context = torch.randn(4, width, dtype=torch.float64) if width else None
    (t,) = at_times(torch.rand(()).item())
    rows = [None] * 4 if context is None else context[:, None]
    jacobians = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda x, c=c: field(t, x[None], c)[0], row)
            for row, c in zip(x, rows, strict=True)
        ]
    )
    size = jacobians.flatten(1).norm(dim=1) + 1e-3
    loop_dx, loop = rate_of("loop", field, t, x, context)
    dx, closed = rate_of("closed_form", field, t, x, context)
    torch.testing.assert_close(loop_dx, field(t, x, context), atol=0, rtol=0)
    torch.testing.assert_close(dx, loop_dx, atol=1e-14, rtol=1e-14)
    assert bool(((loop - closed).abs() <= 1e-12 * size).all())
    exact = jacobians.diagonal(dim1=1, dim2=2).sum(1)
    assert bool(((exact - closed).abs() <= 1e-12 * size).all())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("time", TIME)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("dim", "hidden"), [(3, 7), (7, 3)])
def test_every_closed_form(activation: str, time: str, depth: int, dim: int, hidden: int) -> None:
    """Each combination once, so that none is left to chance; its gradient is the loop's."""
    field = mlp_field(dim, hidden=hidden, depth=depth, activation=activation, time=time)
    x = torch.randn(3, dim, dtype=torch.float64, requires_grad=True)
    (t,) = at_times(0.3)
    results = [rate_of(trace, field, t, x)[1] for trace in ("loop", "closed_form")]
    torch.testing.assert_close(*results, atol=1e-12, rtol=1e-12)
    tensors = [x, *field.parameters()]
    gradients = [
        torch.autograd.grad(r.sum(), tensors, allow_unused=True, materialize_grads=True)
        for r in results
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("time", TIME)
def test_time_enters_as_its_kind_says(time: str, normal: Normal) -> None:
    """Only "ignore" does not depend on t."""
    field, x = mlp_field(3, time=time), normal(4, 3)
    early, late = (field(t, x) for t in at_times(0.1, 0.9))
    assert torch.allclose(early, late) == (time == "ignore")


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_hutchinson_over_all_probes(depth: int, normal: Normal) -> None:
    """Over all 2^D probes the mean is the trace and the variance 2 (‖S‖² - Σ S_ii²), exactly."""
    field, (t,), x = mlp_field(4, depth=depth), at_times(0.4), normal(1, 4)
    probes = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)), dtype=torch.float64)
    _, estimates = rate_of("hutchinson", field, t, x.expand(16, -1), noise=(probes,))
    jacobian = torch.autograd.functional.jacobian(lambda x: field(t, x[None])[0], x[0])
    symmetric = (jacobian + jacobian.T) / 2
    variance = 2 * (symmetric.square().sum() - symmetric.diagonal().square().sum())
    torch.testing.assert_close(estimates.mean(), jacobian.trace(), atol=1e-12, rtol=0)
    torch.testing.assert_close(estimates.var(correction=0), variance, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("trace", ["loop", "exact", "hutchinson"])
def test_fields_that_hardly_depend_on_x(trace: str, normal: Normal) -> None:
    """A constant field and one with a constant column: their traces are zero and one half."""
    x = normal(4, 2)

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.tensor([1.0, -2.0]).double())

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return self.shift.expand_as(x)

    half = Rowwise(lambda x: torch.cat([x[:, :1] / 2, torch.ones_like(x[:, 1:])], 1))
    for field, ladj in ((Constant(), 0.0), (half, 0.5)):
        flow = Flow(CNF(field, trace=trace), dim=2)
        z, got = flow.transform(x)
        torch.testing.assert_close(got.detach(), torch.full((4,), ladj).double())
        with torch.no_grad():
            torch.testing.assert_close(flow.transform(x)[0], z.detach())


@pytest.mark.parametrize("offer", ["with_trace", "trace", "trace without context"])
@pytest.mark.parametrize("conditional", [False, True])
def test_user_fields_with_a_trace(offer: str, conditional: bool, normal: Normal) -> None:
    """A field of any signature may offer its trace; "exact" takes it, and "loop" agrees."""
    inner = mlp_field(3, context_dim=2 if conditional else 0)
    calls: list[str] = []

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        if conditional:

            def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
                return self.inner(t, x, context)
        else:

            def forward(self, t: Tensor, x: Tensor) -> Tensor:
                return self.inner(t, x)

        if offer == "with_trace":

            def with_trace(self, t: Tensor, x: Tensor, context: Tensor | None) -> Any:
                calls.append(offer)
                return self.inner.with_trace(t, x, context)
        elif offer == "trace":

            def trace(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
                calls.append(offer)
                return self.inner.with_trace(t, x, context)[1]
        elif not conditional:

            def trace(self, t: Tensor, x: Tensor) -> Tensor:
                calls.append(offer)
                return self.inner.with_trace(t, x)[1]

    flow = Flow(CNF(Field(), solver=DOPRI5), dim=3)
    x, context = normal(4, 3), normal(4, 2, seed=1) if conditional else None
    reference = Flow(CNF(inner, solver=DOPRI5)).log_prob(x, context)
    torch.testing.assert_close(flow.log_prob(x, context), reference, atol=1e-8, rtol=0)
    if not (conditional and offer == "trace without context"):
        assert calls
    loop = flow.using(trace="loop").log_prob(x, context)
    torch.testing.assert_close(loop, reference, atol=1e-8, rtol=0)


def test_closed_form_needs_a_field_that_has_one(normal: Normal) -> None:
    """The error names the field and the remedies."""
    flow = Flow(CNF(Linear(torch.eye(2).double()), trace="closed_form"))
    with pytest.raises(TypeError, match=r"Linear.*trace='loop'"):
        flow.log_prob(normal(3, 2))
