"""Conditional densities of rows (y, x): of flows, baselines, simulators, tables with a target."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor

import flows
from benchmarks import datasets
from benchmarks.cli.choose import entrants
from benchmarks.core.study import Common, registry
from benchmarks.datasets import drawn, simulators, tables
from benchmarks.studies.search.study import SearchOptions
from benchmarks.training import weights
from benchmarks.training.baselines import BASELINES, BaselineEntry, fit
from flows.conditional import Conditional

D, C, N = 2, 3, 50
CONDITIONAL = sorted(simulators.ABOUT)
DRAWS = 40_000


def test_the_density_of_rows_is_that_of_y_given_x():
    flow = flows.build("maf", D, hidden=8, layers=2, context_dim=C).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    rows = torch.randn(N, D + C, dtype=torch.float64)
    y, x = rows[:, :D], rows[:, D:]
    flow = Conditional(flow, x)
    torch.testing.assert_close(flow.log_prob(rows), flow.flow.log_prob(y, x))
    torch.testing.assert_close(flow.to_noise(rows), flow.flow.to_noise(y, x))
    torch.testing.assert_close(flow.loss(rows), flow.flow.loss(y, x))
    drawn, log_prob = flow.rsample_and_log_prob(2 * N)
    torch.testing.assert_close(drawn[:, D:], x.repeat(2, 1))
    torch.testing.assert_close(flow.log_prob(drawn), log_prob)
    torch.manual_seed(1)
    sample = flow.sample(N)
    torch.manual_seed(1)
    torch.testing.assert_close(sample[:, :D], flow.flow.sample(N, x))
    assert {name.removeprefix("flow.") for name in flow.state_dict()} == {*flow.flow.state_dict()}
    compiled = flow.compiled(backend="eager")
    torch.testing.assert_close(compiled.log_prob(rows), flow.log_prob(rows))
    for refused in (lambda: flow.sample(-1), lambda: flow.log_prob(rows.numpy())):
        with pytest.raises(ValueError, match=r"whole number|expected a Tensor"):
            refused()


def test_a_gaussian_given_x_is_the_linear_regression():
    rows = simulators.linear_sample(4000, torch.Generator().manual_seed(0)).numpy()
    y, x = rows[:, :10], rows[:, 10:]
    design = np.concatenate([np.ones((len(x), 1)), x], 1)
    residuals = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    covariance = torch.from_numpy(residuals.T @ residuals / len(rows))
    normal = torch.distributions.MultivariateNormal(torch.zeros(10).double(), covariance)
    expected = normal.log_prob(torch.from_numpy(residuals)).numpy()
    for preprocessing in ("standardize", "whiten"):
        entry = {"flow": "gaussian", "preprocessing": preprocessing}
        fitted = fit(entry, rows, 0, rows, given=10)
        np.testing.assert_allclose(fitted.log_prob(rows), expected, atol=1e-9)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_given_x_has_mass_one_and_samples_of_it(name):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(1500, 1))
    y = np.sin(2 * x) + 0.3 * generator.normal(size=x.shape)
    rows = np.concatenate([y, x], 1)
    entry = BaselineEntry(flow=name, effort=1e8 if name == "mixture" else None)
    rows, held = rows[:1000], rows[1000:1500]
    fitted = fit(entry, rows, 0, held, given=1)
    line = np.linspace(-4, 4, 501)
    for place in (-1.0, 0.0, 0.7):
        density = np.exp(fitted.log_prob(np.stack([line, np.full_like(line, place)], 1)))
        assert density.sum() * (line[1] - line[0]) == pytest.approx(1, abs=1e-4)
    samples = fitted.sample(1000)
    np.testing.assert_array_equal(samples[:, 1:], rows[:, 1:])
    # each sample's probability integral transform by the density that it was drawn from
    cdf = [
        np.exp(fitted.log_prob(np.stack([line, np.full_like(line, at)], 1)))[line <= value].sum()
        for value, at in samples[:40]
    ]
    transformed = np.sort(np.array(cdf) * (line[1] - line[0]))
    distance = np.abs(transformed - (np.arange(40) + 0.5) / 40).max()
    assert distance < 2.2 / 40**0.5  # Kolmogorov's, at a level of 1e-4


@pytest.mark.parametrize("dim", [1, 2])
def test_a_chooser_of_a_target_has_families_that_take_a_context(tmp_path, dim):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 4)), columns=list("abcd"))
    frame.to_csv(tmp_path / "table.csv", index=False)
    name = f"{tmp_path / 'table.csv'}:target={'a,b'[: 2 * dim - 1]}"
    tables.admit(name)
    listed = entrants(dim, (), 4 - dim)
    assert {"maf", "nsf_ar", "cnf"} <= {one.flow for one in listed}
    assert "ot_flow" not in {one.flow for one in listed}
    with pytest.raises(ValueError, match="'planar' takes no context"):
        entrants(dim, ("planar",), 4 - dim)
    options = SearchOptions(flows=tuple(listed), datasets=(name,), baselines=("gaussian",))
    cases = registry["search"].cases(options, Common())
    sizes = {(c.dim, c.options["context_dim"]) for c in cases if c.flow in flows.names()}
    assert sizes == {(dim, 4 - dim)}


def test_a_kept_flow_takes_raw_rows_and_contexts(tmp_path, monkeypatch):
    """Its density is that of standardised columns, less the logarithm of y's scale."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 3)) * [1, 2, 3] + 5)
    data = tables.load_frame(frame, target=["1"])
    flow = flows.build("maf", 1, hidden=8, layers=2, context_dim=2)
    conditional = Conditional(flow, data.train[:, 1:].float())
    case = Common().case(study="density", flow="maf", dim=1, batch=1)
    monkeypatch.setitem(weights.folders, case.key, tmp_path / "kept")
    weights.keep(case, conditional, data)
    raw = data.scaling.inverse(data.test)[0].float()
    expected = conditional.log_prob(data.test.float()) - data.facts["log_scale"]
    log_prob = flows.load(tmp_path / "kept").log_prob(raw[:, :1], raw[:, 1:])
    torch.testing.assert_close(log_prob, expected, atol=1e-4, rtol=1e-4)


def _uniforms_of_gaussians(rows: Tensor, centre: Callable[[Tensor], Tensor], variance: float):
    y, x = rows.chunk(2, 1)
    return torch.special.ndtr((y - centre(x)) / variance**0.5)


def _uniforms_of_slcp(rows: Tensor) -> Tensor:
    y, x = rows.split([8, 5], 1)
    u = (y.reshape(-1, 4, 2) - x[:, None, :2]) / x[:, None, 2:4].square()
    rho = x[:, None, 4].tanh()
    rest = (u[..., 1] - rho * u[..., 0]) / (1 - rho.square()).sqrt()
    return torch.special.ndtr(torch.cat([u[..., 0], rest], 1))


def _uniforms_of_moons(rows: Tensor) -> Tensor:
    off = rows[:, :2] - simulators._centre(rows[:, 2:])
    radius = torch.special.ndtr((off.norm(dim=1) - 0.1) / 0.01)
    return torch.stack([radius, torch.atan2(off[:, 1], off[:, 0]) / math.pi + 0.5], 1)


UNIFORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian_linear": lambda rows: _uniforms_of_gaussians(rows, lambda x: x, 0.1),
    "gaussian_linear_posterior": lambda rows: _uniforms_of_gaussians(rows, lambda x: x / 2, 0.05),
    "slcp": _uniforms_of_slcp,
    "two_moons": _uniforms_of_moons,
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_samples_have_the_density(name):
    """Probability integral transforms are uniform, each column by Kolmogorov and Smirnov.

    They are independent of x too: so they are where its first column is above its median.
    """
    data = datasets.load(name)
    rows = data.sample(DRAWS, torch.Generator().manual_seed(5))
    assert rows.shape == (DRAWS, data.width)
    x = rows[:, data.dim]
    values = UNIFORMS[name](rows)
    for column, part in itertools.product(values.T, (x > x.median(), x <= x.median())):
        assert stats.kstest(column[part].numpy(), "uniform").pvalue > 1e-5


@pytest.mark.parametrize("name", CONDITIONAL)
def test_the_density_is_the_change_of_variables_of_its_uniforms(name):
    """log p(y | x) is log |det| of the derivative by y of the probability integral transform."""
    data = datasets.load(name)
    rows = data.test[:5]
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: UNIFORMS[name](row[None])[0]))(rows)
    log_det = torch.linalg.slogdet(jacobian[:, :, : data.dim])[1]
    torch.testing.assert_close(data.log_prob(rows), log_det, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("context_dim", [-1, 3, 4])
def test_a_context_leaves_a_column_for_what_is_given_it(context_dim):
    loader = drawn("mine", "made up", lambda n, g: torch.randn(n, 3), context_dim=context_dim)
    with pytest.raises(ValueError, match=r"'mine'.*from 0 to 2"):
        loader(None, 0)
