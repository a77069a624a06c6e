"""Flows that are fitted, kept and loaded, and what precedes them."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import flows
from flows import Flow, preprocessing
from flows.preprocessing import FITS, RadialGaussianization, Whitening
from flows.saved import RECIPE

FEW = {"hidden": 8, "layers": 1, "updates": 60, "every": 10, "progress": False}


def rows(count: int = 2000) -> np.ndarray:
    """Rows (N, 2) of a Gaussian far from the standard one."""
    return np.random.default_rng(0).normal([100.0, -3.0], [5.0, 0.1], (count, 2))


def entropy() -> float:
    """Negative entropy of that Gaussian, nats."""
    return -math.log(2 * math.pi * math.e) - math.log(5.0 * 0.1)


def test_a_family_learns_a_density_of_the_raw_data(tmp_path: Path) -> None:
    fit = flows.fit("realnvp", rows(), **FEW)
    fresh = torch.tensor(np.random.default_rng(1).normal([100.0, -3.0], [5.0, 0.1], (4000, 2)))
    flow = fit.flow.double()
    assert flow.log_prob(fresh).mean().item() == pytest.approx(entropy(), abs=0.1)
    assert flow.sample(1000).mean(0).numpy() == pytest.approx([100, -3], rel=0.02)
    assert fit.validated == [0, 10, 20, 30, 40, 50, 60]
    assert fit.best == max(fit.validation_ll)
    flows.save(flow, tmp_path)
    assert torch.equal(flows.load(tmp_path).log_prob(fresh), flow.log_prob(fresh))


def test_equal_seeds_give_equal_flows_and_leave_the_random_stream() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    fits = [flows.fit("realnvp", rows(), seed=seed, **FEW) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    assert fits[0].losses == fits[1].losses != fits[2].losses


def test_the_best_weights_are_kept_and_patience_ends_it() -> None:
    """At a rate that spoils what there is the first validation stays the best."""
    x = torch.randn(500, 2)
    flow = flows.build("realnvp", 2, hidden=8).initialize(x)
    before = flow.log_prob(x).mean().item()
    fit = flows.fit(flow, x, validation=x, learning_rate=10.0, every=1, patience=3, progress=False)
    assert fit.flow is flow
    assert (fit.stopped, fit.validated[-1]) == ("patience", 4)
    assert flow.log_prob(x).mean().item() == pytest.approx(before)


def test_a_context_is_learned() -> None:
    generator = np.random.default_rng(0)
    y = generator.normal(size=(3000, 1))
    x = np.hstack([3 * y, -y]) + generator.normal(size=(3000, 2))
    fits = [
        flows.fit("maf", data, **FEW | {"updates": 200, "learning_rate": 0.02})
        for data in (x, (x, y))
    ]
    given, alone = fits[1].best, fits[0].best
    assert given > alone + 0.5  # of the mutual information of 1.2 nats


def test_tables_are_data_and_others_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame(rows(300), columns=["a", "b"])
    flows.fit("realnvp", frame, **FEW | {"updates": 2, "progress": True})
    assert "2 of 2 updates" in capsys.readouterr().err
    table = frame.assign(b=frame["b"] > frame["b"].mean())
    with pytest.warns(UserWarning, match="whole numbers have no bound.* to b$"):
        flows.fit("realnvp", table.convert_dtypes()[::-1], **FEW | {"updates": 2})
    table["kind"] = "of words"
    nan = rows(300)
    nan[0, 0] = math.nan
    for data, more, reason in (
        (rows(300)[:, 0], {}, "shape"),
        (table, {}, "columns kind of"),
        (nan, {}, "NaN or infinity"),
        (frame.assign(still=2.5), {}, "leave out still"),
        (frame.assign(c=1.0 * frame["a"]), {}, "one of a, c"),
        (rows(300), {"validation": 0.0}, "takes 0"),
        (rows(300), {"validation": np.zeros((5, 3))}, "3 columns"),
        (rows(300), {"updates": 0}, "updates = 0"),
        (rows(300), {"preprocessing": "whitn"}, "whitn"),
        (rows(300), {"depht": 2}, "depht"),
    ):
        with pytest.raises(ValueError, match=reason):
            flows.fit("realnvp", data, **FEW | more)


SIZES = {"hidden": 8, "depth": 1, "layers": 2, "context_dim": 2}
EVERY = pytest.mark.parametrize("name", flows.own())


def built(name: str, preprocessings: tuple[str, ...] = ()) -> tuple[Flow, torch.Tensor, Any]:
    """A small flow of a family, rows of data (N, D), and a context where it takes one."""
    torch.manual_seed(0)
    x = torch.randn(64, 3) * torch.tensor([1.0, 10.0, 0.1]) + 5
    flow = flows.build(name, 3, **flows.members[name].applicable(SIZES))
    for own in preprocessings:
        flow.prepend(preprocessing.fit(own, x))
    context = torch.randn(64, 2) if "context_dim" in flows.members[name].uses else None
    flow.initialize(x, context)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return flow.using(noise=0), x, context


@EVERY
def test_a_flow_is_kept_by_files_by_torch_and_by_copies(name: str, tmp_path: Path) -> None:
    """Its densities are the same, and later changes of the original do not reach it.

    Its preprocessing, its recipe and its dtype are inside.
    """
    flow, x, context = built(name, tuple(preprocessing.FITS))
    flow, x, context = flow.double(), x.double(), None if context is None else context.double()
    expected = flow.log_prob(x, context).detach()
    buffer = io.BytesIO()
    torch.save(flow, buffer)
    buffer.seek(0)
    flows.save(flow, tmp_path)
    others = [
        copy.deepcopy(flow),
        torch.load(buffer, weights_only=False),
        flows.load(tmp_path).using(noise=0),
    ]
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
    for other in others:
        assert torch.equal(other.log_prob(x, context), expected)
        assert other.recipe == flow.recipe


def test_what_cannot_be_kept_or_read_is_refused(tmp_path: Path) -> None:
    flow, *_ = built("realnvp")
    flows.save(flow, tmp_path)
    content = json.loads((tmp_path / RECIPE).read_text())
    for change, reason in (
        ({"version": 99}, "version 99"),
        ({"flow": "glwo"}, "glwo"),
        ({"options": {"hidden": 9}}, "do not fit"),
        ({"dtype": "float3"}, "no flow"),
    ):
        (tmp_path / RECIPE).write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=reason):
            flows.load(tmp_path)
    with pytest.raises(ValueError, match="no flow"):
        flows.load(tmp_path / "absent")
    flow.prepend(flows.build("realnvp", 3).transform)
    with pytest.raises(ValueError, match=r"flows\.build"):
        flows.save(flow, tmp_path)


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
