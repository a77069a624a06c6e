"""Rational-quadratic splines: the formula, and nflows' faults that it does without."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from nflows import transforms
from nflows.transforms.splines import unconstrained_rational_quadratic_spline as theirs
from nflows.utils import create_alternating_binary_mask
from torch import Tensor, nn

import flows
from flows.discrete.nflows_compat import PiecewiseRationalQuadraticCouplingTransform
from flows.discrete.splines import FLATTEST, NARROWEST, UNIT_SLOPE, Spline

Normal = Callable[..., Tensor]
generated = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@generated
@given(
    bins=st.integers(2, 12),
    bound=st.floats(0.5, 100),
    spread=st.floats(0, 3),
    seed=st.integers(0, 10**6),
)
def test_it_is_nflows_spline_and_inverts(bins: int, bound: float, spread: float, seed: int) -> None:
    """The same map as nflows' own where that is sound; its slope is autograd's; it is monotone."""
    generator = torch.Generator().manual_seed(seed)
    raw = spread * torch.randn(40, 2, 3 * bins - 1, generator=generator, dtype=torch.float64)
    x = 0.7 * bound * torch.randn(40, 2, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    spline = Spline(raw, bound)
    y, log_slope = spline.forward(x)
    widths, heights, slopes = raw.split((bins, bins, bins - 1), -1)
    reference = theirs(
        x,
        widths,
        heights,
        slopes + UNIT_SLOPE,
        tail_bound=bound,
        min_bin_width=NARROWEST,
        min_bin_height=NARROWEST,
        min_derivative=FLATTEST,
    )
    torch.testing.assert_close(y, reference[0], atol=1e-9 * bound, rtol=0)
    torch.testing.assert_close(log_slope, reference[1], atol=1e-7, rtol=0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope.log(), log_slope, atol=1e-9, rtol=0)
    back, opposite, missed = spline.inverse(y)
    assert bool((missed <= 1e-9 * bound).all())
    assert bool(((spline.forward(back)[0] - y).abs() <= 1e-9 * bound).all())
    torch.testing.assert_close(spline.forward(back)[1], -opposite, atol=1e-6, rtol=0)


@pytest.mark.parametrize("bound", [3.0, 50.0])
def test_the_ends_belong_to_the_tails(bound: float) -> None:
    """At ±bound, just inside and beyond: continuous. nflows' table has no entry for 50."""
    raw = 2 * torch.randn(6, 1, 14)
    ends = torch.tensor([[-bound], [bound], [bound * 2], [-bound * 9], [-1e30], [1e30]])
    y, slope = Spline(raw, bound).forward(ends)
    assert torch.equal(y, ends)
    assert torch.equal(slope, torch.zeros_like(ends))
    inside = ends[:2] * (1 - 1e-5)
    torch.testing.assert_close(
        Spline(raw[:2], bound).forward(inside)[0], ends[:2], rtol=1e-3, atol=0
    )
    if bound == 50.0:
        widths, heights, slopes = raw[1:2].split((5, 5, 4), -1)
        with pytest.raises((RuntimeError, IndexError), match=r"out of bounds|range"):
            theirs(ends[1:2], widths, heights, slopes, tail_bound=bound)


def _coupling(kind: type[nn.Module], raw: Tensor, **options: object) -> nn.Module:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.raw = raw

        def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return raw

    mask = create_alternating_binary_mask(2, even=True)
    return kind(mask, lambda i, o: Fixed(), num_bins=8, tails="linear", tail_bound=3.0, **options)


@pytest.mark.filterwarnings("ignore:Inputs to the softmax are not scaled down")
def test_an_inverse_that_rounding_spoils_is_solved_in_float64(normal: Normal) -> None:
    """In float32 the original misses by 1e-3; ours solves those again, and counts them."""
    raw = 20 * normal(100_000, 23, dtype=torch.float32)
    y = 1.5 * normal(100_000, 2, seed=1, dtype=torch.float32)
    missed = {}
    for kind in (
        transforms.PiecewiseRationalQuadraticCouplingTransform,
        PiecewiseRationalQuadraticCouplingTransform,
    ):
        coupling = _coupling(kind, raw)
        x, ladj = coupling.inverse(y)
        assert x.dtype == ladj.dtype == torch.float32
        missed[kind] = (coupling.forward(x)[0] - y).abs().max().item()
    theirs, ours = missed.values()
    assert theirs > 1e-3
    assert ours < theirs / 4
    assert 0 < coupling.fallbacks < 5_000
    for sound in (_coupling(kind, raw.double()), _coupling(kind, 0.02 * raw)):
        sound.inverse(y.to(sound.transform_net.raw))
        assert sound.fallbacks == 0


def test_the_inverse_never_fails(normal: Normal) -> None:
    """Slopes a million times apart: finite, within its bin, and as near as rounding allows."""
    for dtype in (torch.float32, torch.float64):
        raw = normal(20_000, 2, 23, dtype=dtype) * 6
        raw[..., 16:] *= 1e6
        y = 3 * normal(20_000, 2, seed=1, dtype=dtype)
        x, slope, _ = Spline(raw, 3.0).inverse(y)
        assert bool(torch.isfinite(x).all() & torch.isfinite(slope).all())
        assert bool(((x.abs() <= 3.0) | (x == y)).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 1}, "bins.* 2 to 999.* 1"),
        ({"bins": 1000}, "bins.* 1000"),
        ({"bins": 2.5}, r"bins.* 2\.5"),
        ({"tail_bound": 0}, "tail_bound.* 0"),
        ({"tail_bound": float("nan")}, "tail_bound.* nan"),
        ({"tail_bound": "5"}, "tail_bound.* '5'"),
        ({"linear": ["lu"]}, r"\['lu'\].*naive"),
    ],
)
@pytest.mark.parametrize("name", ["nsf_coupling", "nsf_ar"])
def test_what_is_no_spline_is_refused(name: str, options: dict[str, object], message: str) -> None:
    """In one line, when the flow is built."""
    with pytest.raises(ValueError, match=message):
        flows.build(name, 3, **options)
