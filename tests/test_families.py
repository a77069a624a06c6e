"""Transformers and free-form flows against hand counts and mathematics; what families declare."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

import flows
from benchmarks.measure.operations import Dispatched, Operations
from continuous_fields import moved
from flows.discrete.transformers import NormalMixture
from variants import every_member

ROWS, CONTEXT = 5, 2
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv")  # of matrices


def _flops(call: Callable[[], Any]) -> int:
    with torch.no_grad(), Operations() as operations:
        call()
    assert not operations.uncounted
    return int(operations.flops)


def _hand_count(dim: int, pairs: int, inside: int, sizes: dict[str, int], numbers: int) -> int:
    """FLOPs of one net for ROWS rows, whose attention looks at so many pairs of columns."""
    hidden, width = sizes["hidden"], max(8, -(-sizes["hidden"] // 4))
    products = 4 * width * inside + 2 * width * hidden
    block = dim * products + 2 * pairs * inside
    return 2 * ROWS * (sizes["depth"] * block + dim * width * numbers)


@pytest.mark.parametrize(("name", "numbers"), [("tarflow", 2), ("transformer_mixture", 30)])
@pytest.mark.parametrize(("dim", "hidden", "inside"), [(1, 8, 8), (5, 258, 66), (65, 64, 17)])
def test_counts_are_those_by_hand(name, numbers, dim, hidden, inside):
    sizes = {"hidden": hidden, "depth": 2, "layers": 3}
    x = torch.randn(ROWS, dim)
    flow = flows.build(name, dim, **sizes)
    density = _hand_count(dim, dim * dim, inside, sizes, numbers)
    assert _flops(lambda: flow.log_prob(x)) == sizes["layers"] * density
    steps = _hand_count(dim, dim * (dim + 1) // 2, inside, sizes, numbers)
    assert _flops(lambda: flow.sample(ROWS)) == sizes["layers"] * steps

    conditional = flows.build(name, dim, **sizes, context_dim=CONTEXT)
    width = max(8, -(-hidden // 4))
    embedding = 2 * ROWS * CONTEXT * width
    context = torch.randn(ROWS, CONTEXT)
    count = _flops(lambda: conditional.log_prob(x, context))
    assert count == sizes["layers"] * (density + embedding)

    block = 4 * width * inside + 3 * inside + 2 * width * hidden + hidden + 6 * width
    net = sizes["depth"] * block + (dim + 3) * width + (width + 1) * numbers
    assert sum(p.numel() for p in flow.parameters()) == sizes["layers"] * (net + 2 * dim)


@pytest.mark.parametrize("name", ["tarflow", "transformer_mixture"])
def test_attention_is_the_same_above_the_columns_that_it_is_written_out_for(name, monkeypatch):
    flow = moved(flows.build(name, 7, hidden=260, layers=2), 0.2)
    x = torch.randn(4, 7, dtype=torch.float64)
    values = []
    for most in (64, 0):
        monkeypatch.setattr("flows.discrete.transformers.WRITTEN_OUT", most)
        torch.manual_seed(0)
        values.append(torch.cat([flow.log_prob(x), flow.sample(4).flatten()]))
    torch.testing.assert_close(*values, atol=1e-11, rtol=1e-11)


@given(st.integers(1, 12), st.integers(0, 10_000), st.sampled_from([1.0, 30.0, 3000.0]))
def test_a_mixture_is_its_distribution_function(components, seed, reach):
    """Φ(z) = F(x) by scipy, in logarithms of the smaller tail; dz/dx = f(x) / φ(z)."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(3 * components, generator=generator, dtype=torch.float64)
    x = reach * torch.randn(20, generator=generator, dtype=torch.float64)
    mixture = NormalMixture(components)
    z, slope = mixture.forward(x, numbers.expand(20, -1))
    logits, means, scales = numbers.view(3, -1).numpy()
    weights = scipy.special.log_softmax(logits)
    u = (x.numpy()[:, None] - means) / np.exp(7 * np.tanh(scales / 7))
    for sign in (1, -1):
        tail = scipy.special.logsumexp(weights + scipy.stats.norm.logcdf(sign * u), axis=1)
        mapped = scipy.stats.norm.logcdf(sign * z.numpy())
        small = tail < math.log(0.6)
        np.testing.assert_allclose(mapped[small], tail[small], rtol=1e-10, atol=1e-12)
    density = weights + scipy.stats.norm.logpdf(u) - 7 * np.tanh(scales / 7)
    density = scipy.special.logsumexp(density, axis=1)
    size = 1 + np.abs(density)
    error = slope.numpy() + scipy.stats.norm.logpdf(z.numpy()) - density
    assert np.all(np.abs(error) < 1e-10 * size)
    again, opposite = mixture.inverse(z, numbers.expand(20, -1))
    image, _ = mixture.forward(again, numbers.expand(20, -1))
    torch.testing.assert_close(image, z, rtol=1e-9, atol=1e-9)
    assert bool(torch.isfinite(opposite).all())


def test_one_component_is_affine_as_far_as_numbers_reach():
    """z = (x - μ) / σ in both precisions, thousands of deviations out, with finite gradients."""
    for dtype, rtol in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        x = torch.tensor([-5e3, -40.0, -1.0, 0.0, 1e-3, 9.0, 5e3], dtype=dtype, requires_grad=True)
        numbers = torch.tensor([0.0, 0.5, 0.0], dtype=dtype).expand(7, -1)
        z, slope = NormalMixture(1).forward(x, numbers)
        torch.testing.assert_close(z, x - 0.5, rtol=rtol, atol=10 * rtol)
        (gradient,) = torch.autograd.grad(z.sum(), x)
        close = 1e3 * torch.finfo(dtype).eps ** 0.7
        torch.testing.assert_close(gradient, torch.ones_like(x), rtol=close, atol=0)
        assert float(slope[1:-1].detach().abs().max()) < 1e4 * rtol


@pytest.mark.parametrize("dim", [1, 3])
def test_a_free_form_loss_has_the_gradient_of_the_likelihood(dim, normal):
    """Of the encoder, where both nets are the identity: exact for one column, else in the mean."""
    flow = flows.build("free_form", dim, hidden=4, layers=2).double()
    x = normal(1, dim).repeat(1 if dim == 1 else 40_000, 1)
    transform: Any = flow.transform
    parameters = list(transform.encoder.parameters())
    torch.manual_seed(0)
    losses = (flow.loss(x), -flow.log_prob(x[:1]).mean())
    gradients = [torch.autograd.grad(loss, parameters) for loss in losses]
    tolerance = 1e-12 if dim == 1 else 0.02
    torch.testing.assert_close(*gradients, atol=tolerance, rtol=tolerance)


@every_member
def test_what_a_family_declares_is_what_it_calls(name, options):
    """Passes grow with D where they are one a column; an ODE evaluates its field."""
    offered = flows.capabilities(name)
    solver = {"solver": {"method": "euler", "step_size": 0.5}}
    options = options | solver if "solver" in flows.members[name].defaults else options
    for direction in ("log_prob", "sample"):
        counts = []
        for dim in (4, 8):
            flow = flows.build(name, dim, **options)
            x = torch.randn(2, dim)
            with torch.no_grad(), flows.count_nfe(flow) as nfe, Dispatched() as mode:
                flow.log_prob(x) if direction == "log_prob" else flow.sample(2)
            counts.append(sum(mode.counts[f"aten.{product}.default"] for product in PRODUCTS))
        way = getattr(offered, direction)
        assert (nfe.forward > 0) == (way == "ODE")
        growing = way.startswith(("D passes", "D steps"))
        assert counts[1] == (2 * counts[0] if growing else pytest.approx(counts[0], rel=0.5))
        assert counts[0] < 100 or way != "1 pass"
    assert offered.context == ("context_dim" in flows.members[name].uses)
    assert not offered.bounded


def test_what_no_family_declares_is_refused():
    with pytest.raises(ValueError, match="'nope'"):
        flows.capabilities("nope")
    for components in (0, 1.5, True):
        with pytest.raises(ValueError, match="components"):
            flows.build("transformer_mixture", 2, components=components)
    for weight in (0.0, -1.0, math.inf, math.nan, True):
        with pytest.raises(ValueError, match="weight"):
            flows.build("free_form", 2, weight=weight)
