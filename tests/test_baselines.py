"""Baselines: densities by formula, moments that a split keeps, parameters recovered, choices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy
import torch
from sklearn.mixture import GaussianMixture

from benchmarks import datasets
from benchmarks.training.baselines import (
    BASELINES,
    BaselineEntry,
    Mixture,
    columns,
    fit,
    products,
    start,
)
from flows.preprocessing import FITS

COVARIANCES = ["full", "diagonal"]
ENTRIES = [
    {"flow": flow, "preprocessing": name} | ({"effort": 1e9} if flow == "mixture" else {})
    for flow in BASELINES
    for name in FITS
]


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Rows (N, 3) of three correlated clusters."""
    rng = np.random.default_rng(0)
    means, shear = 3 * rng.normal(size=(3, 3)), rng.normal(size=(3, 3, 3))
    picks = rng.integers(0, 3, 600)
    return means[picks] + np.einsum("nij,nj->ni", shear[picks], rng.normal(size=(600, 3)))


def grown(rows: np.ndarray, covariance: str, components: int = 4, ridge: float = 0.0) -> Mixture:
    x, generator = columns(rows), torch.Generator().manual_seed(0)
    model = start(x, covariance, ridge)
    while len(model.means) < components:
        model = model.split(1, generator).step(x, ridge)
    return model


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_density_of_a_mixture_is_that_of_its_gaussians(rows, covariance) -> None:
    model = grown(rows, covariance)
    parts = [
        math.log(weight) + scipy.stats.multivariate_normal(mean, factor @ factor.T).logpdf(rows)
        for weight, mean, factor in zip(
            model.logits.exp(), model.means.numpy(), model.factors.numpy(), strict=True
        )
    ]
    expected = scipy.special.logsumexp(parts, axis=0)
    assert np.allclose(model.log_prob(columns(rows)), expected, atol=1e-9)
    assert model.features == len(products(columns(rows), covariance))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("covariance", "other"), [("full", "full"), ("diagonal", "diag")])
def test_a_step_is_that_of_another_implementation(rows, covariance, other) -> None:
    model = grown(rows, covariance, ridge=1e-3)
    spreads = np.linalg.inv((model.factors @ model.factors.mT).numpy())
    peer = GaussianMixture(
        len(model.means), covariance_type=other, reg_covar=1e-3, max_iter=1,
        weights_init=model.logits.exp().numpy(), means_init=model.means.numpy(),
        precisions_init=spreads if other == "full" else spreads.diagonal(axis1=1, axis2=2),
    ).fit(rows)  # fmt: skip
    own = model.step(columns(rows), 1e-3).log_prob(columns(rows))
    assert np.allclose(own, peer.score_samples(rows), atol=1e-7)


def test_the_components_of_a_mixture_are_recovered() -> None:
    data = datasets.load("8gaussians")
    entry = BaselineEntry(flow="mixture", effort=2e10)
    fitted = fit(entry, data.train.numpy(), 0, data.val.numpy())
    gap = data.log_prob(data.test).numpy() - fitted.log_prob(data.test.numpy())
    assert gap.mean() < 0.004
    assert fitted.notes["components"] >= 8
    x = torch.from_numpy(fitted.sample(8000))
    nearest = torch.cdist(x, data.modes).argmin(1)
    shares = torch.bincount(nearest, minlength=8) / len(x)
    assert (shares - 1 / 8).abs().max() < 0.02


@pytest.mark.parametrize("flow", BASELINES)
def test_a_baseline_does_not_depend_on_units(rows, flow) -> None:
    """Densities of rows in other units differ by the log-determinant, however small they are."""
    factor = np.tril(np.random.default_rng(1).normal(size=(3, 3))) + 2 * np.eye(3)
    factor *= 1e-4
    entry = BaselineEntry(flow=flow, effort=1e8 if flow == "mixture" else None)
    first, second = (fit(entry, x[:400], 0, x[400:]) for x in (rows, rows @ factor.T + 7))
    ladj = np.linalg.slogdet(factor)[1]
    other = second.log_prob(rows @ factor.T + 7) + ladj
    assert np.allclose(first.log_prob(rows), other, atol=1e-4)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: "-".join([*entry.values()][:2]))
def test_baselines_are_densities_and_sample_from_themselves(entry) -> None:
    data = datasets.load("8gaussians")
    fitted = fit(BaselineEntry(**entry), data.train.numpy()[:1000], 0, data.val.numpy())
    side = np.linspace(-16, 16, 300)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    log_prob, cell = fitted.log_prob(grid), (side[1] - side[0]) ** 2
    assert np.exp(log_prob).sum() * cell == pytest.approx(1, abs=2e-3)
    if "tried" in fitted.notes:
        rows = data.val.numpy()[: fitted.notes["validation_rows"]]
        assert fitted.notes["validation_ll"] == pytest.approx(fitted.log_prob(rows).mean())
    own = fitted.log_prob(fitted.sample(4000))
    entropy = -np.exp(log_prob) @ log_prob * cell
    assert -own.mean() == pytest.approx(entropy, abs=5 * own.std() / 4000**0.5 + 2e-3)


def test_the_density_of_kernels_is_their_mean_and_its_bandwidth_the_best(rows) -> None:
    fitted = BASELINES["kde"](rows[:500], 0, rows[500:])
    far = np.concatenate([rows, 40 * rows[:20]])  # from every centre too

    def expected(x: np.ndarray, width: float) -> np.ndarray:
        squares = scipy.spatial.distance.cdist(x, rows[:500], "sqeuclidean")
        kernels = -0.5 * squares / width**2 - 3 * math.log(width * math.sqrt(math.tau))
        return scipy.special.logsumexp(kernels, axis=1) - math.log(500)

    width = fitted.notes["bandwidth"]
    assert np.allclose(fitted.log_prob(far), expected(far, width), rtol=1e-9)
    for tried in fitted.notes["tried"]:
        score = expected(rows[500:], tried["bandwidth"]).mean()
        assert tried["validation_ll"] == pytest.approx(score)
        assert score <= fitted.log_prob(rows[500:]).mean() + 1e-9


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("nosuch", ["nosuch", "mixture"]),
        ({"flow": "kde", "preprocessing": "nosuch"}, ["nosuch", "radial"]),
        ({"flow": "gaussian", "effort": 1e9}, ["gaussian", "effort"]),
    ],
)
def test_an_entry_that_cannot_be_fitted_is_refused(entry, words) -> None:
    with pytest.raises(ValueError, match=words[0]) as error:
        BaselineEntry.model_validate(entry)
    assert words[1] in str(error.value)
