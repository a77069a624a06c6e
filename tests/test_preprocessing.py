"""What precedes a flow is fitted, counted, and a bijection."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import flows
from flows import Flow, preprocessing
from flows.preprocessing import FITS, RadialGaussianization, Whitening

Normal = Callable[..., Tensor]


def _data(normal: Normal, dim: int = 3) -> Tensor:
    mixing = normal(dim, dim, seed=1) + 2 * torch.eye(dim)
    return normal(400, dim) @ mixing.T * torch.logspace(-3, 3, dim).double() + 10


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_whitened_data_have_the_density_of_the_fitted_gaussian(dim: int, normal: Normal) -> None:
    """With its log-determinant, if the noise is standard normal."""
    x = _data(normal, dim)
    covariance = x.T.cov().reshape(dim, dim)
    gaussian = torch.distributions.MultivariateNormal(x.mean(0), covariance)
    log_prob = Flow(Whitening.fit(x), dim=dim).log_prob(x)
    torch.testing.assert_close(log_prob, gaussian.log_prob(x), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["maf", "cnf", "flow_matching"])
def test_prepend_composes(name: str, normal: Normal) -> None:
    """After ``prepend`` the density is that of the raw data: log p(w(x)) + ladj(w)."""
    x = _data(normal)[:8]
    whitening = Whitening.fit(_data(normal))
    flow = flows.build(name, 3, **flows.members[name].applicable({"hidden": 8})).double()
    z, ladj = whitening(x)
    inner = flow.using(noise=1).log_prob(z)
    assert flow.prepend(whitening) is flow
    flow = flow.using(noise=1)
    torch.testing.assert_close(flow.log_prob(x), inner + ladj)
    back = flow.transform.inverse(flow.to_noise(x))[0]
    torch.testing.assert_close(back, x, atol=1e-2, rtol=1e-3)
    assert not any("factor" in parameter for parameter, _ in flow.named_parameters())
    assert {key for key in flow.state_dict() if key.endswith(("mean", "factor"))}
    flow.initialize(_data(normal))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_singular_covariances_are_refused(dtype: torch.dtype, shift: float, normal: Normal) -> None:
    """A constant column, and one that others determine up to rounding, whatever the rounding."""
    x = normal(300, 2) + shift
    for share in (1 / 3, 0.1, 0.7, 3.3):
        for last in (
            torch.full((300, 1), share).double(),
            x[:, :1] * share,
            x @ x.new_tensor([[share], [1.0]]),
        ):
            with pytest.raises(ValueError, match="column 2"):
                Whitening.fit(torch.cat([x, last], 1).to(dtype))


def test_a_small_but_real_column_is_kept(normal: Normal) -> None:
    """Strong correlation and small units are no singularity."""
    x = normal(300, 2)
    near = torch.cat([x, x.sum(1, keepdim=True) + 1e-4 * normal(300, 1, seed=5)], 1)
    for data, tolerance in ((near, 1e-6), (near * 1e-12, 1e-6), (near.float(), 0.05)):
        z, _ = Whitening.fit(data)(data)
        deviation = (z.double().T.cov() - torch.eye(3)).abs().max().item()
        assert deviation < tolerance


def test_too_few_rows_and_values_that_are_not_finite(normal: Normal) -> None:
    """Both are named."""
    x = normal(10, 3)
    x[0, 0] = math.nan
    for name in FITS:
        with pytest.raises(ValueError, match=r"more rows.*\(3, 3\)"):
            preprocessing.fit(name, normal(3, 3))
        with pytest.raises(ValueError, match="NaN"):
            preprocessing.fit(name, x)


def test_what_has_no_spread_is_refused(normal: Normal) -> None:
    """A constant column, rows at one distance, and a name that is not known."""
    x = normal(50, 2)
    with pytest.raises(ValueError, match="column 1"):
        preprocessing.fit("standardize", torch.cat([x[:, :1], 0 * x[:, 1:] + 0.1], 1))
    with pytest.raises(ValueError, match="one distance"):
        RadialGaussianization.fit(x / x.norm(dim=1, keepdim=True))
    with pytest.raises(ValueError, match=r"'pca'.*standardize, whiten, radial"):
        preprocessing.fit("pca", x)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dim", [2, 3, 7])
def test_the_kit_finds_no_fault(name: str, dtype: torch.dtype, dim: int, normal: Normal) -> None:
    """On data with heavy tails, in units of its own."""
    x = 3 + 0.1 * _heavy(normal, 500, dim)
    flow = Flow(preprocessing.fit(name, x.to(dtype)), dim=dim)
    report = flows.check(flow)
    assert report.passed, str(report)


def _heavy(normal: Normal, rows: int, dim: int) -> Tensor:
    """Student's t with three degrees of freedom, elliptically symmetric."""
    chi2 = normal(rows, 3, seed=7).square().sum(1, keepdim=True)
    return normal(rows, dim, seed=3) / (chi2 / 3).sqrt()


@pytest.mark.parametrize("dim", [1, 3, 20])
def test_radii_become_those_of_normal_numbers(dim: int, normal: Normal) -> None:
    """Of heavy tails, after which the density of the data is about the true one."""
    train, test = _heavy(normal, 8000, dim).split(4000)
    flow = Flow(RadialGaussianization.fit(train), dim=dim)
    distances = flow.to_noise(test).norm(dim=1).numpy()
    assert stats.kstest(distances, stats.chi(dim).cdf).statistic < 0.05
    truth = stats.multivariate_t(np.zeros(dim), np.eye(dim), df=3).logpdf(test.numpy())
    gap = float(truth.mean()) - flow.log_prob(test).mean().item()
    assert abs(gap) < 0.03


@given(st.integers(0, 2**20), st.integers(1, 12), st.floats(-40, 40), st.floats(0.2, 5))
def test_the_curve_is_monotone_smooth_and_inverted(
    seed: int, dim: int, log_radius: float, power: float
) -> None:
    """For radii from e^-40 to e^40, of data with tails of any weight; zero is no exception."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(300, dim, generator=generator, dtype=torch.float64)
    radial = RadialGaussianization.fit(draws * draws.norm(dim=1, keepdim=True) ** (power - 1))
    direction = torch.nn.functional.normalize(draws[:1], dim=1)
    logs = torch.cat([torch.tensor([log_radius]).double(), radial.knots[0]])
    nearby = torch.stack([logs - 1e-7, logs, logs + 1e-7], 1).exp().reshape(-1, 1) * direction
    image, ladj = radial(nearby)
    back, opposite = radial.inverse(image)
    assert bool((image.norm(dim=1).view(-1, 3).diff(dim=1) > 0).all())
    slopes = ladj.view(-1, 3)
    torch.testing.assert_close(slopes[:, ::2], slopes[:, 1:2].expand(-1, 2), atol=1e-3, rtol=0)
    torch.testing.assert_close(back, nearby, rtol=1e-8, atol=0)
    torch.testing.assert_close(opposite, -ladj, rtol=1e-8, atol=1e-8)
    origin, finite = radial(torch.zeros(1, dim).double())
    assert not origin.any()
    assert bool(torch.isfinite(finite).all())
