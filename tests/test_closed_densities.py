"""Exact densities: mass, entropy, samples, of simulators given their parameters too."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from benchmarks import datasets
from benchmarks.datasets import analytic, toys

LARGEST = 8  # dimension in which densities are held to samples

every_family = pytest.mark.parametrize("family", analytic.FAMILIES)
dims = st.integers(1, 12)


def _points(dim: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(20, dim, generator=datasets.stream(seed, "points"), dtype=torch.float64)


@every_family
def test_the_mass_is_one(family: str) -> None:
    """Over x = sinh u / 1e5, which reaches far tails and resolves the funnel's neck."""
    u = torch.arange(-26.0, 26.0, 0.04, dtype=torch.float64)
    x, slope = u.sinh() / 1e5, u.cosh() / 1e5
    log_prob, mass = analytic.FAMILIES[family].log_prob, 0.0
    for at, width in zip(x[:, None], slope, strict=True):
        line = log_prob(torch.stack((at.expand_as(x), x), dim=1))
        mass += float(width * (slope * line.exp()).sum()) * 0.04**2
    assert mass == pytest.approx(1, abs=1e-6)
    assert float((slope * log_prob(x[:, None]).exp()).sum()) * 0.04 == pytest.approx(1, abs=1e-8)


@every_family
@settings(max_examples=10, deadline=None)
@given(dim=dims, seed=st.integers(0, 100))
def test_any_dimension_has_the_entropy_it_states(family: str, dim: int, seed: int) -> None:
    row = analytic.FAMILIES[family]
    nll = -row.log_prob(row.sample(dim, 20_000, datasets.stream(seed, "entropy")))
    error = float(nll.std()) / math.sqrt(len(nll))
    assert abs(float(nll.mean()) - row.entropy(dim)) < 6 * error


@pytest.mark.parametrize("name", datasets.names())
def test_samples_fit_the_slope_of_the_density(name: str) -> None:
    """Stein's identities: E grad log p = 0 and E x_i grad_j log p = -(i = j), to 6 errors.

    They hold for densities without jumps, whose slope is not 0 almost everywhere.
    """
    try:
        data = datasets.load(name)
    except FileNotFoundError:
        pytest.skip("its files are not here")
    if data.sample is None or data.log_prob is None or data.dim > LARGEST:
        pytest.skip("no sampler or density, or of too many dimensions")
    if data.context_dim:
        pytest.skip("of y given x: tested below")
    x = data.sample(4_000, datasets.stream(1, "stein")).requires_grad_()
    log_prob = data.log_prob(x)
    if not log_prob.requires_grad:
        pytest.skip("piecewise constant")
    (slope,) = torch.autograd.grad(log_prob.sum(), x)
    factors = torch.cat((torch.ones(len(x), 1), x.detach()), dim=1).double()
    terms = factors[:, :, None] * slope[:, None, :]
    expected = torch.cat((torch.zeros(1, data.dim), -torch.eye(data.dim)))
    error = terms.std(dim=0) / math.sqrt(len(x))
    assert ((terms.mean(dim=0) - expected).abs() < 6 * error).all()


@settings(max_examples=10, deadline=None)
@given(dim=dims)
def test_log_prob_is_that_of_other_libraries(dim: int) -> None:
    x, zero, eye = _points(dim), torch.zeros(dim).double(), torch.eye(dim).double()
    index = torch.arange(dim)
    correlation = analytic.CORRELATION ** (index[:, None] - index).abs().double()
    normal = MultivariateNormal(zero, correlation)
    assert torch.allclose(analytic.gaussian_log_prob(x), normal.log_prob(x))
    assert analytic.gaussian_entropy(dim) == pytest.approx(float(normal.entropy()))
    student = scipy.stats.multivariate_t(np.zeros(dim), np.eye(dim), df=analytic.FREEDOM)
    assert torch.allclose(
        analytic.student_t_log_prob(x), torch.tensor(student.logpdf(x.numpy())).reshape(-1)
    )
    assert analytic.student_t_entropy(dim) == pytest.approx(student.entropy())
    modes = [MultivariateNormal(c, eye).log_prob(x) for c in analytic.centres(dim)]
    mixed = torch.stack(modes).exp().mean(dim=0).log()
    assert torch.allclose(analytic.mixture_log_prob(x), mixed)
    neck = Normal(0.0, analytic.NECK).log_prob(x[:, 0])
    rest = Normal(0.0, (x[:, :1] / 2).exp()).log_prob(x[:, 1:]).sum(dim=1)
    assert torch.allclose(analytic.funnel_log_prob(x), neck + rest)


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_the_mixture_entropy_has_converged(dim: int) -> None:
    assert abs(analytic.mixture_entropy(dim) - analytic.mixture_entropy(dim, 0.1, 20.0)) < 1e-10


@pytest.mark.slow
def test_plane_entropies_and_densities_have_converged() -> None:
    for rings in toys.RINGS.values():
        assert abs(toys.rings_entropy(rings) - toys.rings_entropy(rings, 1000)) < 1e-10
    for arcs in toys.ARCS.values():
        finer = arcs._replace(nodes=2 * arcs.nodes)
        assert abs(toys.arcs_entropy(arcs) - toys.arcs_entropy(finer, 0.18, 10.0)) < 1e-10
        _agree(arcs.sample, arcs.spread, arcs.log_prob, finer.log_prob)
    assert abs(toys.spirals_entropy() - toys.spirals_entropy(0.18, 10.0, 1000)) < 1e-10
    finer = partial(toys.spirals_log_prob, nodes=2 * toys.ARM_NODES)
    _agree(toys.spirals_sample, toys.ARM_SPREAD, toys.spirals_log_prob, finer)
    assert abs(toys.pinwheel_entropy() - toys.pinwheel_entropy(400, 300, 3.8)) < 1e-7


def _agree(sample, spread: float, coarse, fine) -> None:
    """Two quadratures of a density are alike within ten spreads of its samples."""
    x = sample(2000, datasets.stream(0, "x"))
    x = x + 10 * spread * torch.randn(len(x), 2, dtype=torch.float64)
    near = fine(x) > fine(x).max() - 10**2 / 2
    assert (coarse(x) - fine(x))[near].abs().max() < 1e-9


def test_plane_densities_are_finite_however_far_out() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.3]], dtype=torch.float64)
    far = torch.cat([x, *(x[1:] * 10**k for k in range(2, 8))])
    for name in ("pinwheel", "2spirals", "moons", "swissroll"):
        log_prob = datasets.load(name).log_prob
        assert log_prob is not None
        assert log_prob(far).isfinite().all()


def test_what_is_not_known_is_refused() -> None:
    assert analytic.loader("funnel", 5)(None, 0).dim == 5
    with pytest.raises(ValueError, match=r"unknown density 'tunnel'; choose from: gaussian"):
        analytic.loader("tunnel", 2)
    with pytest.raises(ValueError, match="dimension from 1, got 0"):
        analytic.loader("funnel", 0)
