"""Trace estimators: exact ones to rounding, stochastic ones by their law, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.measure.operations import Operations
from continuous_fields import moved
from flows import Flow
from flows.continuous import CNF, BottleneckMLPField, MLPField, Trace
from flows.continuous.point import Point
from flows.continuous.trace import TRACES

Normal = Callable[..., Tensor]


T = torch.tensor(0.4, dtype=torch.float64)


EXACT = [name for name in TRACES if not Trace(name).stochastic and name != "hollow"]


class Tau(nn.Module):
    """A hollow field: f_i = sin(x_i c_i) with c_i the sum of the other coordinates."""

    def conditioner(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        return x.sum(1, keepdim=True) - x

    def transformer(self, t: Tensor, x: Tensor, c: Tensor) -> Tensor:
        return torch.sin(x * c + t)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.transformer(t, x, self.conditioner(t, x, context))


def _bottleneck(dim: int = 5, bottleneck: int = 2, **options: Any) -> Any:
    return moved(BottleneckMLPField(dim, bottleneck=bottleneck, hidden=7, **options))


def _jacobians(field: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
    def of_row(x: Tensor, c: Tensor | None) -> Tensor:
        value: Tensor = field(T, x[None], None if c is None else c[None])[0]
        return value

    return torch.stack(
        [
            torch.autograd.functional.jacobian(
                lambda y, i=i: of_row(y, None if context is None else context[i]), row
            )
            for i, row in enumerate(x)
        ]
    )


def _rate(trace: Any, field: Any, x: Tensor, context: Any = None, noise: Any = None) -> Any:
    return Trace.of(trace).rate(Point(field, T, x, context), noise)


def _traces() -> list[Any]:
    modes = [{"estimator": name} for name in EXACT]
    return modes + [{"estimator": n, "mode": "forward"} for n in EXACT if TRACES[n].modes]


@pytest.mark.parametrize("trace", _traces(), ids=str)
@pytest.mark.parametrize("kind", ["mlp", "conditional", "bottleneck"])
def test_exact_traces(trace: dict[str, str], kind: str, normal: Normal) -> None:
    """Each is the trace of the autograd Jacobian, within 1e-12 of its norm, as is its gradient."""
    context = normal(4, 2, seed=5) if kind == "conditional" else None
    field = _bottleneck() if kind == "bottleneck" else None
    field = field or moved(MLPField(5, hidden=7, context_dim=2 if context is not None else 0))
    x = normal(4, 5).requires_grad_()
    jacobians = _jacobians(field, x.detach(), context)
    dx, total = _rate(trace, field, x, context)
    torch.testing.assert_close(dx, field(T, x, context), atol=1e-14, rtol=1e-13)
    error = (total - jacobians.diagonal(dim1=1, dim2=2).sum(1)).abs()
    assert bool((error <= 1e-12 * jacobians.flatten(1).norm(dim=1)).all())
    tensors = [x, *field.parameters()]
    gradients = [
        torch.autograd.grad(t.sin().sum(), tensors, allow_unused=True, materialize_grads=True)
        for t in (total, _rate("loop", field, x, context)[1])
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def test_hollow_in_one_pass(normal: Normal) -> None:
    """The trace of a hollow field, and its gradient through the conditioner, are the loop's."""
    x = normal(6, 4).requires_grad_()
    dx, total = _rate("hollow", Tau(), x)
    loop_dx, loop = _rate("loop", Tau(), x)
    torch.testing.assert_close(dx, loop_dx)
    torch.testing.assert_close(total, loop, atol=1e-13, rtol=1e-12)
    assert torch.equal(_rate("exact", Tau(), x)[1], total)
    gradients = [torch.autograd.grad(t.square().sum(), x)[0] for t in (total, loop)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("trace", ["hollow", "bottleneck", "closed_form"])
def test_traces_name_the_fields_they_need(trace: str, normal: Normal) -> None:
    """A field that does not offer what an estimator uses is named, with the remedy."""

    class Plain(nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return -x

    with pytest.raises(TypeError, match=r"Plain .*trace='(exact|hutchinson|loop)'"):
        Flow(CNF(Plain(), trace=trace), 2).log_prob(normal(3, 2))


def _variance(jacobian: Tensor, noise: str, probes: int) -> float:
    symmetric = (jacobian + jacobian.T) / 2
    total = symmetric.square().sum()
    own = symmetric.diagonal().square().sum() if noise == "rademacher" else 0.0
    return float(2 * (total - own) / probes)


@pytest.mark.parametrize("estimator", ["hutchinson", "bottleneck"])
@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
@pytest.mark.parametrize("mode", ["backward", "forward"])
@pytest.mark.parametrize("probes", [1, 3])
def test_mean_and_variance(
    estimator: str, noise: Any, mode: Any, probes: int, normal: Normal
) -> None:
    """Unbiased, with the variance of theory: within five standard errors at 20,000 rows."""
    field, rows = _bottleneck(dim=4, bottleneck=3), 20_000
    x = normal(1, 4)
    trace = Trace(estimator, probes, noise, mode)
    draws = trace.draw(field, x.expand(rows, -1), torch.Generator().manual_seed(1))
    _, estimates = _rate(trace, field, x.expand(rows, -1), noise=draws)
    (jacobian,) = _jacobians(field, x)
    if estimator == "bottleneck":
        h = field.encoder(T, x)
        outer = torch.autograd.functional.jacobian(lambda h: field.decoder(T, h[None])[0], h[0])
        inner = torch.autograd.functional.jacobian(lambda x: field.encoder(T, x[None])[0], x[0])
        assert torch.allclose(outer @ inner, jacobian)
        jacobian = inner @ outer  # 3 x 3: the same trace, another variance
    error = estimates.std() / rows**0.5
    assert abs(estimates.mean() - jacobian.trace()) < 5 * error
    deviations = (estimates - estimates.mean()).square()
    expected = _variance(jacobian, noise, probes)
    assert abs(deviations.mean() - expected) < 5 * deviations.std() / rows**0.5
    assert expected > 0.01


@pytest.mark.parametrize("estimator", ["hutchinson", "bottleneck"])
def test_modes_agree(estimator: str, normal: Normal) -> None:
    """Forward and backward mode are the same estimate, and so are their gradients."""
    field, x = _bottleneck(), normal(6, 5).requires_grad_()
    results = []
    for mode in ("backward", "forward"):
        trace = Trace.of({"estimator": estimator, "mode": mode, "probes": 2})
        noise = trace.draw(field, x, torch.Generator().manual_seed(3))
        _, estimate = _rate(trace, field, x, noise=noise)
        gradients = torch.autograd.grad(
            estimate.sum(), [x, *field.parameters()], allow_unused=True, materialize_grads=True
        )
        results.append([estimate, *gradients])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-11)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("exakt", "'exakt'.*exact, loop"),
        ({"estimator": "hutchinson", "probes": 0}, "probes.* 0"),
        ({"estimator": "hutchinson", "noise": "uniform"}, "'uniform'.*gaussian"),
        ({"estimator": "hutchinson", "mode": "reverse"}, "'reverse'.*forward"),
        ({"estimator": "closed_form", "probes": 2}, "'closed_form'.*probes"),
        ({"estimator": "loop", "mode": "forward"}, "'loop'.*mode"),
        ({"estimator": "hutchinson", "k": 2}, "'k'.*estimator"),
    ],
)
def test_traces_that_cannot_be(value: Any, message: str) -> None:
    """Each with what was given and the choices."""
    with pytest.raises(ValueError, match=message):
        Trace.of(value)
    with pytest.raises(TypeError, match=r"Trace.*3"):
        Trace.of(3)  # type: ignore[arg-type]  # the error is the point


NOW = torch.tensor(0.3)  # float32


def _flops(trace: Any, field: Any, x: Tensor) -> int:
    estimator = Trace.of(trace)
    noise = estimator.draw(field, x, torch.Generator().manual_seed(0))
    with torch.no_grad(), Operations() as counted:
        estimator.rate(Point(field, NOW, x, None), noise)
    assert not counted.uncounted
    return counted.flops


def test_forward_mode_multiplies_by_no_zeros() -> None:
    """An estimate is another field a probe, and none multiplies the weights' tangents."""
    field, x = MLPField(5, hidden=32, depth=3), torch.randn(40, 5)
    alone = 2 * 40 * (2 * 5 * 32 + 2 * 32**2)
    for probes in (1, 3):
        trace = {"estimator": "hutchinson", "mode": "forward", "probes": probes}
        assert _flops(trace, field, x) == (1 + probes) * alone
