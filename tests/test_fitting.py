"""Flows that are fitted, kept and loaded, and what precedes them."""

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor

import flows
from flows import Flow, preprocessing
from flows.conformance.subject import jitter
from flows.preprocessing import FITS, RadialGaussianization, Whitening

FEW = {"hidden": 8, "layers": 1, "updates": 60, "batch": 256, "progress": False}
SIZES = {"hidden": 8, "depth": 1, "layers": 2, "context_dim": 2}
STEPS = (*FITS, "logit+whiten", "log+radial", "logit+marginal+clip")
EACH = pytest.mark.parametrize("name", STEPS)


def rows(count: int = 2000) -> np.ndarray:
    """Rows (N, 2) of a Gaussian far from the standard one."""
    return np.random.default_rng(0).normal([100.0, -3.0], [5.0, 0.1], (count, 2))


def test_a_family_learns_a_density_of_the_raw_data(tmp_path):
    fit = flows.fit("realnvp", rows(), **FEW)
    fresh = torch.tensor(np.random.default_rng(1).normal([100.0, -3.0], [5.0, 0.1], (4000, 2)))
    flow = fit.flow.double()
    entropy = math.log(2 * math.pi * math.e) + math.log(5.0 * 0.1)
    assert flow.log_prob(fresh).mean().item() == pytest.approx(-entropy, abs=0.1)
    assert flow.sample(1000).mean(0).numpy() == pytest.approx([100, -3], rel=0.02)
    assert fit.validated[0] == 0
    assert fit.validated[-1] == 60
    assert fit.best == max(fit.validation_ll)
    flows.save(flow, tmp_path)
    assert torch.equal(flows.load(tmp_path).log_prob(fresh), flow.log_prob(fresh))


def test_a_bounded_table_is_learned_behind_a_logit():
    x = np.random.default_rng(0).beta(0.7, 0.7, (2000, 2)) * [1.0, 255.0]
    fit = flows.fit("realnvp", x, preprocessing="logit+whiten", support=[[0, 0], [1, 255]], **FEW)
    assert fit.best > flows.fit("realnvp", x, **FEW).best + 0.2
    assert fit.flow.recipe.preprocessing == ("logit+whiten",)


def test_the_seed_decides():
    fits = [flows.fit("realnvp", rows(), seed=seed, **FEW) for seed in (1, 1, 2)]
    assert fits[0].losses == fits[1].losses != fits[2].losses


def test_the_best_weights_are_kept_and_the_training_goes_back_to_them():
    """At a rate that spoils what there is the first validation stays the best."""
    x = torch.randn(500, 2)
    flow = flows.build("realnvp", 2, hidden=8).initialize(x)
    before = flow.log_prob(x).mean().item()
    fit = flows.fit(flow, x, validation=x, learning_rate=0.3, updates=300, progress=False)
    assert fit.flow is flow
    assert fit.returned
    assert fit.validated[-1] < 300
    assert flow.log_prob(x).mean().item() == pytest.approx(before)


def test_a_context_is_learned():
    generator = np.random.default_rng(0)
    y = generator.normal(size=(3000, 1))
    x = np.hstack([3 * y, -y]) + generator.normal(size=(3000, 2))
    few = FEW | {"updates": 200, "learning_rate": 0.02}
    alone, given = (flows.fit("maf", data, **few).best for data in (x, (x, y)))
    assert given > alone + 0.5  # of the mutual information of 1.2 nats


def test_tables_are_data_and_others_are_refused(capsys):
    frame = pd.DataFrame(rows(300), columns=["a", "b"])
    flows.fit("realnvp", frame, **FEW | {"updates": 2, "progress": True})
    assert "2 of 2 updates" in capsys.readouterr().err
    fit = flows.fit("realnvp", frame, **FEW | {"updates": 2})
    tensor = torch.tensor(frame.to_numpy(np.float32))
    assert torch.equal(fit.flow.log_prob(frame[["b", "a"]].assign(c=1)), fit.flow.log_prob(tensor))
    with pytest.raises(ValueError, match="'b'"):
        fit.flow.log_prob(frame[["a"]])
    assert len(repr(fit).splitlines()) <= 4
    assert "realnvp" in repr(fit.flow)
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
        (rows(300), {"cpu_seconds": -1}, "cpu_seconds = -1"),
        (rows(300), {"updates": math.nan}, "updates = nan"),
        (rows(300), {"learning_rate": 0.0}, "learning_rate = 0.0"),
        (rows(300), {"batch": 2.5}, "batch = 2.5"),
        (rows(300), {"updates": 10.5}, "updates = 10.5"),
        (rows(300), {"updates": True}, "updates = True"),
        (frame, {"validation": frame[["a"]]}, "lacks columns b"),
        (rows(300), {"preprocessing": "whitn"}, "whitn"),
        (rows(300), {"depht": 2}, "depht"),
    ):
        with pytest.raises(ValueError, match=reason):
            flows.fit("realnvp", data, **FEW | more)


def test_columns_of_a_validation_table_are_taken_by_name():
    frame = pd.DataFrame(rows(300), columns=["a", "b"])
    few = FEW | {"updates": 2}
    fits = [flows.fit("maf", frame, validation=frame[[*names]], **few) for names in ("ab", "ba")]
    assert fits[0].best == fits[1].best


def test_a_trained_flow_goes_on_from_its_weights():
    """Those that were set from the data too."""
    first = flows.fit("maf", rows(300), **FEW)
    before = copy.deepcopy(first.flow).log_prob(torch.tensor(rows(5), dtype=torch.float32))
    again = {"updates": 1, "learning_rate": 1e-12, "progress": False}
    flow = flows.fit(first.flow, rows(300), **again).flow
    after = flow.log_prob(torch.tensor(rows(5), dtype=torch.float32))
    assert after.detach() == pytest.approx(before.detach(), abs=1e-4)


def test_a_flow_that_is_refused_stays_as_it_was():
    flow = flows.build("maf", 2, hidden=4)
    with pytest.raises(ValueError, match="no context"):
        flows.fit(flow, (rows(300), rows(300)), preprocessing="whiten")
    assert flow.recipe is not None
    assert not flow.recipe.preprocessing


def built(name: str, preprocessings: tuple[str, ...] = ()) -> tuple[Flow, torch.Tensor, Any]:
    """A small flow of a family, rows of data (N, D), and a context where it takes one."""
    torch.manual_seed(0)
    x = torch.randn(64, 3) * torch.tensor([1.0, 10.0, 0.1]) + 5
    flow = flows.build(name, 3, **flows.members[name].applicable(SIZES))
    support = torch.stack([x.amin(0) - 1, x.amax(0) + 1])
    for own in preprocessings:
        flow.prepend(preprocessing.fit(own, x, support))
    context = torch.randn(64, 2) if "context_dim" in flows.members[name].uses else None
    flow.initialize(x, context)
    jitter(flow, 0.05)
    return flow.using(noise=0), x, context


@pytest.mark.parametrize("name", flows.own())
def test_a_flow_is_kept_by_files_by_torch_and_by_copies(name, tmp_path):
    flow, x, context = built(name, (*FITS, "logit+radial+clip"))
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
    jitter(flow, 0.1)
    for other in others:
        assert torch.equal(other.log_prob(x, context), expected)
        assert other.recipe == flow.recipe


def test_what_cannot_be_kept_or_read_is_refused(tmp_path):
    flow, *_ = built("realnvp")
    with pytest.raises(ValueError, match="no flow"):
        flows.load(tmp_path / "absent")
    out, weights = tmp_path / "out", tmp_path / "out" / "weights"
    flows.save(flow, weights / "one")
    assert flows.load(out).dim == flows.load(weights).dim == 3
    flows.save(flow, weights / "other")
    for above in (out, weights):
        with pytest.raises(ValueError, match=r"weights/one.*weights/other"):
            flows.load(above)
    with pytest.raises(ValueError, match="'dim'"):
        flows.save(flow, tmp_path, dim=2)
    flow.prepend(flows.build("realnvp", 3).transform)
    with pytest.raises(ValueError, match=r"flows\.build"):
        flows.save(flow, tmp_path)


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_whitened_data_have_the_density_of_the_fitted_gaussian(dim, normal):
    mixing = normal(dim, dim, seed=1) + 2 * torch.eye(dim)
    x = normal(400, dim) @ mixing.T * torch.logspace(-3, 3, dim).double() + 10
    gaussian = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov().reshape(dim, dim))
    log_prob = Flow(Whitening.fit(x), dim=dim).log_prob(x)
    torch.testing.assert_close(log_prob, gaussian.log_prob(x), atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_singular_covariances_are_refused(dtype, shift, normal):
    x = normal(300, 2) + shift
    for share in (1 / 3, 0.1, 0.7, 3.3):
        for last in (
            torch.full((300, 1), share).double(),
            x[:, :1] * share,
            x @ x.new_tensor([[share], [1.0]]),
        ):
            with pytest.raises(ValueError, match="column 2"):
                Whitening.fit(torch.cat([x, last], 1).to(dtype))


def test_a_small_but_real_column_is_kept(normal):
    x = normal(300, 2)
    near = torch.cat([x, x.sum(1, keepdim=True) + 1e-4 * normal(300, 1, seed=5)], 1)
    for data, tolerance in ((near, 1e-6), (near * 1e-12, 1e-6), (near.float(), 0.05)):
        z, _ = Whitening.fit(data)(data)
        assert (z.double().T.cov() - torch.eye(3)).abs().max().item() < tolerance


def test_too_few_rows_and_values_that_are_not_finite(normal):
    x = normal(10, 3)
    x[0, 0] = math.nan
    for name in FITS:
        with pytest.raises(ValueError, match=r"more rows.*\(3, 3\)"):
            preprocessing.fit(name, normal(3, 3))
        with pytest.raises(ValueError, match="NaN"):
            preprocessing.fit(name, x)


def test_what_has_no_spread_is_refused(normal):
    x = normal(50, 2)
    with pytest.raises(ValueError, match="column 1"):
        preprocessing.fit("standardize", torch.cat([x[:, :1], 0 * x[:, 1:] + 0.1], 1))
    with pytest.raises(ValueError, match="one distance"):
        RadialGaussianization.fit(x / x.norm(dim=1, keepdim=True))
    with pytest.raises(ValueError, match=r"'pca'.*standardize, whiten, radial"):
        preprocessing.fit("pca", x)


def _own(name: str, normal: Callable[..., Tensor], rows: int, dim: int) -> Tensor:
    """Data that a preprocessing is for, (N, D): in [0, 1], positive, or with heavy tails."""
    special = {"logit": normal(rows, dim).sigmoid(), "log": normal(rows, dim).exp()}
    return special.get(name.split("+")[0], 3 + 0.1 * _heavy(normal, rows, dim))


@EACH
@pytest.mark.parametrize("dim", [1, 2, 7])
def test_the_kit_finds_no_fault(name, dim, normal):
    report = flows.check(Flow(preprocessing.fit(name, _own(name, normal, 500, dim)), dim=dim))
    assert report.passed, str(report)


@EACH
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.floats(-50, 50), st.floats(-50, 50))
def test_every_point_goes_there_and_back(name, normal, value, other):
    step = preprocessing.fit(name, _own(name, normal, 200, 2))
    x = torch.tensor([[value, other]]).double()
    for there, back in ((step.forward, step.inverse), (step.inverse, step.forward)):
        y, ladj = there(x)
        again, opposite = back(y)
        torch.testing.assert_close(again, x, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(opposite, -ladj, rtol=1e-6, atol=1e-6)
        assert bool(torch.isfinite(ladj).all())


@pytest.mark.parametrize("first", FITS)
@pytest.mark.parametrize("second", FITS)
def test_steps_are_fitted_in_turn(first, second, normal):
    x = _own(first, normal, 200, 3)
    support = torch.tensor([0.0, math.inf if first == "log" else 100]).double()
    support = support[:, None].expand(2, 3) * torch.tensor([1.0, 2.0, 3.0]).double()
    step = preprocessing.fit(first, x, support)
    z, ladj = step(x)
    mixing = first in ("whiten", "radial")
    bounds = torch.tensor([[-math.inf], [math.inf]]).expand(2, 3) if mixing else step(support)[0]
    expected, more = preprocessing.fit(second, z, bounds)(z)
    image, total = preprocessing.fit(f"{first}+{second}", x, support)(x)
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(total, ladj + more)


def test_the_logit_has_its_formula_and_bounds(normal):
    """Of bounded columns alone; beyond the bounds densities stay finite, and are next to none."""
    x = torch.cat([3 * normal(300, 1).sigmoid() - 1, normal(300, 2)], 1)
    support = torch.tensor([[-1, -math.inf, -math.inf], [2, math.inf, 9.0]]).double()
    flow = Flow(preprocessing.fit("logit", x, support), dim=3)
    share = (0.05 + 0.9 * (x[:, 0].numpy() + 1) / 3).clip(0, 1)
    z, slope = special.logit(share), 0.9 / 3 / (share * (1 - share))
    truth = stats.norm.logpdf(z) + np.log(slope) + stats.norm.logpdf(x[:, 1:].numpy()).sum(1)
    assert flow.log_prob(x).numpy() == pytest.approx(truth, abs=1e-9)
    outside = torch.tensor([[-1.3, 0, 0], [2.3, 0, 0]]).double()
    assert bool((flow.log_prob(outside) < -1e4).all())
    margin = 3 * 0.05 / 0.9
    samples = flow.sample(4000)[:, 0]
    assert -1 - margin < samples.min() < -1 < 2 < samples.max() < 2 + margin
    (row,) = [row for row in flows.check(flow).rows if row.name == "mass outside the support"]
    assert row.value == pytest.approx(2 * stats.norm.sf(special.logit(0.95)), abs=0.005)
    for data, bounds, reason in (
        (x, None, "column 0 has values from .* from 0 to 1"),
        (x, support - 1, "column 0"),
        (x, support[:, :2], r"\(2, 3\)"),
        (x[:, :1].sigmoid(), torch.tensor([[1.0], [0.0]]), "column 0"),
    ):
        with pytest.raises(ValueError, match=reason):
            preprocessing.fit("logit", data, bounds)


def test_the_logarithm_is_of_long_tails_alone(normal):
    """One that is positive, not bounded above, and less skewed behind it."""
    tail, plain = normal(2000, 1).exp(), normal(2000, 1)
    x = torch.cat([tail, tail - 5, tail - 5, 20 + plain, -tail, tail], 1)
    support = torch.full((2, 6), math.inf).double()
    support[0] = torch.tensor([-math.inf, -5, -math.inf, 0, -math.inf, 0])
    support[1, 5] = 1e4
    z, _ = preprocessing.fit("log", x, support)(x)
    active = [0, 1]
    assert [k for k in range(6) if not torch.equal(z[:, k], x[:, k])] == active
    assert np.abs(stats.skew(z[:, active].numpy())).max() < 0.3
    torch.testing.assert_close(z[:, 0], (tail[:, 0] / tail.median() + 0.01).log())
    with pytest.raises(ValueError, match="column 1 "):
        preprocessing.fit("log", x, torch.zeros(2, 6) + torch.tensor([[-2.0], [math.inf]]))


@pytest.mark.parametrize(
    "law", [stats.t(2), stats.norm(1e3, 1e-2), stats.lognorm(1), stats.uniform]
)
def test_each_column_becomes_normal(law):
    train, test = law.rvs(size=(2, 4000, 1), random_state=np.random.default_rng(0))
    flow = Flow(preprocessing.fit("marginal", torch.from_numpy(train)), dim=1)
    z = flow.to_noise(torch.from_numpy(test))
    assert stats.kstest(z[:, 0].numpy(), "norm").statistic < 0.05
    gap = law.logpdf(test).mean() - flow.log_prob(torch.from_numpy(test)).mean().item()
    assert abs(gap) < 0.05


def test_tails_are_compressed_and_the_rest_is_not(normal):
    """The identity in standard deviations up to six, and the logarithm beyond."""
    x = normal(500, 2) * 3 + 7
    step = preprocessing.fit("clip", x)
    u = torch.tensor([-1e6, -7.0, -6.0, 0.5, 6.0, 6.001, 20.0]).double()[:, None].expand(-1, 2)
    expected = torch.where(u.abs() < 6, u, u.sign() * (6 + (1 + u.abs() - 6).log()))
    torch.testing.assert_close(step(x.mean(0) + u * x.std(0))[0], expected)


def _heavy(normal: Callable[..., Tensor], rows: int, dim: int) -> Tensor:
    """Student's t with three degrees of freedom, elliptically symmetric."""
    chi2 = normal(rows, 3, seed=7).square().sum(1, keepdim=True)
    return normal(rows, dim, seed=3) / (chi2 / 3).sqrt()


@pytest.mark.parametrize("dim", [1, 3, 20])
def test_radii_become_those_of_normal_numbers(dim, normal):
    train, test = _heavy(normal, 8000, dim).split(4000)
    flow = Flow(RadialGaussianization.fit(train), dim=dim)
    distances = flow.to_noise(test).norm(dim=1).numpy()
    assert stats.kstest(distances, stats.chi(dim).cdf).statistic < 0.05
    truth = stats.multivariate_t(np.zeros(dim), np.eye(dim), df=3).logpdf(test.numpy())
    assert abs(float(truth.mean()) - flow.log_prob(test).mean().item()) < 0.03


@given(st.integers(0, 2**20), st.integers(1, 12), st.floats(-40, 40), st.floats(0.2, 5))
def test_the_curve_is_monotone_smooth_and_inverted(seed, dim, log_radius, power):
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
