"""Scores and baselines: exact likelihoods, densities by formula, samples told apart."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import scipy
import torch
from sklearn.mixture import GaussianMixture

import flows
from acting_flows import Acting
from benchmarks import datasets
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.evaluation import scoring
from benchmarks.evaluation.likelihood import exact, hutchinson, in_chunks, settle
from benchmarks.execution.versions import standing
from benchmarks.measure.calls import prepare
from benchmarks.training.baselines import BASELINES, BaselineEntry, Covariance, columns, fit, single
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from broken_flows import Broken
from committed import ROOT
from flows.continuous import SolveError
from flows.preprocessing import FITS

SIZES = {"rows": 600, "checked_rows": 300, "chunk": 300, "samples": 50, "compared_rows": 300}
SMALL = scoring.Scoring(grid=30, projections=20, **SIZES)
WHITENED = Training(preprocessing="whiten")
RK4 = {"method": "rk4", "step_size": 0.25, "gradient": "backprop"}


def case(flow="realnvp", **changes) -> Case:
    values = {
        "study": "density", "flow": flow, "dim": 2, "dataset": "8gaussians", "batch": 64,
        "updates": 5, "options": {"hidden": 8} if flow in flows.names() else {},
        "settings": {"training": WHITENED.model_dump(), "scoring": SMALL.model_dump()},
    }  # fmt: skip
    return Case(**{**values, **changes})


@pytest.fixture(scope="module")
def solved() -> tuple[flows.Flow, torch.Tensor]:
    """A field with some curvature, and rows for it."""
    torch.manual_seed(0)
    flow = flows.build("ffjord", dim=3, hidden=16)
    with torch.no_grad():
        for p in flow.parameters():
            p.mul_(2.5)
    return flow, torch.randn(200, 3, dtype=torch.float64)


@pytest.mark.parametrize("flow", ["realnvp", "cnf", "ffjord", "flow_matching"])
def test_score_is_the_exact_likelihood_whatever_the_flow(flow):
    options = {"hidden": 8, **({} if flow == "realnvp" else {"solver": RK4})}
    data = datasets.load("8gaussians")
    result = scoring.score_flow(case(flow, options=options), data)
    metrics, arrays = result.metrics, result.arrays
    assert not result.failure
    trained = prepare(case(flow, options=options), data.train.float(), "whiten")
    train(trained, data, case(flow, options=options), WHITENED)
    solver = {"method": "dopri8", "rtol": 1e-9, "atol": 1e-9}
    alone = trained.double().using(trace="loop", solver=solver) if flow != "realnvp" else trained
    with torch.no_grad():
        log_prob = alone.double().log_prob(data.test[: len(arrays["test_log_prob"])])
    assert arrays["test_log_prob"] == pytest.approx(log_prob.numpy(), abs=2e-3)
    assert metrics["test_ll"] == pytest.approx(log_prob.mean().item(), abs=2e-4)
    x0, x1, y0, y1 = arrays["extent"]
    side = arrays["image"].shape[0]
    cell = (x1 - x0) * (y1 - y0) / (side - 1) ** 2
    assert np.exp(arrays["image"].astype(float)).sum() * cell == pytest.approx(1, abs=0.1)
    of_ode = {"test_nfe", "test_tolerance", "ll_shift", "hutchinson_ll", "hutchinson_ll_se"}
    assert metrics.keys() & of_ode == (set() if flow == "realnvp" else of_ode)
    assert metrics.get("ll_shift", 0) < SMALL.settled
    assert result.notes["data"]["units"] == "raw units"
    assert 0.5 - 5 * metrics["told_apart_se"] < metrics["told_apart_floor"] < 0.65


def test_tightening_stops_where_nothing_moves_and_not_before(solved):
    flow, x = solved
    truth = in_chunks(exact(flow, 1e-11), x, 200)
    ways = {"start": 1e-2, "end": 1e-9}
    settled = settle(flow, x, 200, mean=1e-4, row=1e-3, **ways)
    assert 1e-9 < settled.tolerance < 1e-2
    assert not settled.fault
    assert settled.shift < 1e-4
    assert (settled.log_prob - truth).abs().max() < 2e-3
    loose = settle(flow, x, 200, mean=10.0, row=10.0, **ways)
    assert loose.tolerance == 1e-2
    never = settle(flow, x, 200, mean=1e-300, row=1e-300, start=1e-2, end=1e-4)
    assert never.tolerance == pytest.approx(1e-4)
    assert "still moves" in never.fault


def test_hutchinsons_estimate_has_no_bias_and_the_error_it_states(solved):
    flow, x = solved
    truth = in_chunks(exact(flow, 1e-6), x, 200).mean().item()
    estimates = [hutchinson(flow, x, 100, tolerance=1e-5, draws=2, seed=s) for s in range(25)]
    scores = [(value - truth) / error for value, error in estimates]
    assert abs(np.mean(scores)) < 5 / 25**0.5
    assert 0.6 < np.std(scores) < 1.5


@pytest.mark.parametrize("off", [0.0, 0.1])
def test_a_wrong_log_determinant_has_no_score(off):
    def build(dim):
        return Broken(lambda z, ladj: (z, ladj + off), dim=dim, inverse=False)

    flows.register("spoiled", uses=())(build)
    chosen, data = case("spoiled", updates=2, options={}), datasets.load("8gaussians")
    failure = scoring.score_flow(chosen, data).failure
    assert bool(failure) == (off > 0)
    if off:
        assert failure.startswith("it is no density: its log-determinant is 0.1 nats off")


class OneWay(Acting):
    """A flow that cannot be sampled from."""

    def inverse(self, inputs, context=None):
        raise SolveError("the step at t=0.5 underflows")


def test_samples_that_cannot_be_solved_for_cost_the_samples_alone():
    flows.register("one_way", uses=())(lambda dim: OneWay())
    chosen, data = case("one_way", updates=2, options={}), datasets.load("8gaussians")
    result = scoring.score_flow(chosen, data)
    assert "test_ll" in result.metrics  # no failure
    assert "underflows" in result.notes["no_comparison"]
    assert {"train_cpu_seconds", "per_1000_cpu_seconds"} <= result.metrics.keys()
    assert "sample_cpu_rate" not in result.metrics
    assert "underflows" in result.notes["no_speed"]


def test_one_field_trained_in_several_ways_is_one_field():
    members = ("cnf", "ffjord", "rnode", "flow_matching")
    built = [flows.build(name, dim=4, hidden=16, depth=2) for name in members]
    options = [flows.members[name].complete({"hidden": 16}) for name in members]
    assert len({scoring.field_of(f, o) for f, o in zip(built, options, strict=True)}) == 1
    assert len({scoring.trained_by(flow) for flow in built}) == len(members)
    other = flows.build("cnf", dim=4, hidden=16, time="ignore")
    assert scoring.field_of(other, {"time": "ignore"}) != scoring.field_of(built[0], options[0])
    assert scoring.field_of(flows.build("maf", dim=4), {}) is None


@pytest.mark.parametrize("dim", [1, 3])
def test_the_sliced_distance_is_that_of_a_shift_and_of_a_scale(dim):
    x = np.random.default_rng(0).standard_normal((4000, dim))
    shift = np.full(dim, 0.7)
    assert scoring.sliced_wasserstein(x, x) == 0
    # E (u · shift)² = |shift|² / D
    assert scoring.sliced_wasserstein(x, x + shift, 2000) == pytest.approx(0.7, rel=0.1)
    assert scoring.sliced_wasserstein(x, 3 * x, 2000) == pytest.approx(2.0, rel=0.05)


def test_a_classifier_tells_apart_what_differs_and_nothing_else():
    one, same, other = np.random.default_rng(1).standard_normal((3, 1000, 2))
    accuracy, error = scoring.c2st(one, same)
    assert abs(accuracy - 0.5) < 4 * error
    # moved by 2 a, the best rule is right with probability Φ(a)
    accuracy, error = scoring.c2st(one, other + np.array([2.0, 0.0]))
    assert abs(accuracy - 0.8413) < 0.01 + 4 * error


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("above", [0.0, 0.5])
def test_what_beats_the_truth_is_no_density(above, known):
    """The gap is paired where the truth is known, and from the entropy where that alone is."""
    data = datasets.load("8gaussians")
    truth = data.log_prob(data.test).numpy() + above
    target = data if known else replace(data, log_prob=None)
    result = scoring.likelihood_result({}, {}, {}, truth, target)
    assert result.metrics["gap"] == pytest.approx(-above, abs=1e-9 if known else 0.05)
    error = 0 if known else result.metrics["test_ll_se"]
    assert result.metrics["gap_se"] == pytest.approx(error, abs=1e-9)
    assert bool(result.failure) == (above > 0)
    if above:
        assert "nats above what the entropy of 8gaussians allows" in result.failure


@pytest.mark.parametrize("flow", ["gaussian", "realnvp"])
def test_calls_are_timed_in_the_process_of_the_training(flow):
    """In CPU seconds, as often as there is time for; and in no other way."""
    chosen = case(flow, updates=0 if flow == "gaussian" else 5)
    metrics = scoring.score(chosen, datasets.load("8gaussians")).metrics
    for name in ("per_1000_cpu_seconds", "sample_cpu_rate"):
        assert 3 <= len(metrics[name]) <= 40
        assert min(metrics[name]) > 0
    assert not {"train_seconds", "per_1000_seconds", "sample_rate"} & metrics.keys()


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


def test_a_mixture_finds_two_clusters_in_twenty_dimensions() -> None:
    """By as many rows as the theory of likelihoods needs, half a nat for each parameter."""
    rng = np.random.default_rng(0)
    place = rng.normal(size=20)
    place *= 2.5 / np.linalg.norm(place)
    x = rng.normal(size=(9000, 20)) + np.where(rng.random(9000) < 0.5, 1, -1)[:, None] * place
    fitted = fit(BaselineEntry(flow="mixture", effort=2e10), x[:3000], 0, x[3000:5000])
    parts = [scipy.stats.norm.logpdf(x[5000:] + sign * place).sum(1) for sign in (-1, 1)]
    gaps = np.logaddexp(*parts) - math.log(2) - fitted.log_prob(x[5000:])
    assert gaps.mean() < fitted.parameters / 2 / 3000 + 4 * gaps.std() / 4000**0.5
    assert (fitted.notes["components"], fitted.notes["covariance"]) == (2, "tied")


def test_the_components_of_a_mixture_are_recovered() -> None:
    data = datasets.load("8gaussians")
    entry, x = BaselineEntry(flow="mixture", effort=2e10), data.train.numpy()
    fitted = fit(entry, x, 0, data.val.numpy())
    gap = data.log_prob(data.test).numpy() - fitted.log_prob(data.test.numpy())
    assert gap.mean() < 0.004


@pytest.mark.parametrize("covariance", get_args(Covariance))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_steps_are_those_of_another_implementation(rows, covariance) -> None:
    x = columns(rows)
    model = single(x, covariance).split(torch.eye(3, dtype=torch.float64)[:1]).step(x, 1e-3)
    spreads = np.linalg.inv((model.factors @ model.factors.mT).numpy())
    alone = spreads.diagonal(axis1=1, axis2=2)
    forms = {"full": spreads, "tied": spreads[0], "diagonal": alone, "spherical": alone[:, 0]}
    peer = GaussianMixture(
        2, covariance_type=covariance.removesuffix("onal"), reg_covar=1e-3, max_iter=2, tol=0,
        weights_init=model.logits.exp(), means_init=model.means, precisions_init=forms[covariance],
    ).fit(rows)  # fmt: skip
    after = model.step(x, 1e-3).step(x, 1e-3)
    assert np.allclose(after.log_prob(x), peer.score_samples(rows), atol=1e-7)
    free = peer.bic(rows) + 2 * peer.score(rows) * len(rows)
    assert after.parameters == round(free / math.log(len(rows)))


def test_a_baseline_of_an_earlier_version_is_stale_and_no_other_record() -> None:
    """Records did not always know of versions of baselines."""
    for record in store.read(ROOT / "conditional").values():
        known = {n: v for n, v in record.declared.items() if not n.startswith("baseline ")}
        earlier = standing(record.model_copy(update={"declared": known})).counts
        baseline = record.case.flow in BASELINES
        assert bool(earlier) == baseline == ("moved from 1 to" in earlier)
        assert not standing(record).counts


def test_a_baseline_is_validated_on_the_rows_of_a_flow() -> None:
    """The first rows of a validation set, which has more of them, lie far from the others."""
    data = datasets.load("8gaussians")
    far = torch.arange(len(data.val))[:, None] >= WHITENED.validation_rows
    apart = replace(data, val=data.val + 1000 * far)
    ours, expected = (scoring.score(case("gaussian"), own).metrics for own in (apart, data))
    assert ours["val_ll"] == expected["val_ll"]


def test_a_mixture_without_effort_is_the_gaussian(rows) -> None:
    """Nor has it more components than the effort allows, and it is the same for one seed."""
    train, held = rows[:400], rows[400:]
    one, few, again, more = (
        fit(BaselineEntry(flow="mixture", effort=effort), train, 0, held)
        for effort in (1.0, 1e8, 1e8, 1e9)
    )
    expected = fit("gaussian", train, 0, held).log_prob(held)
    assert np.allclose(one.log_prob(held), expected, atol=1e-12)
    assert one.notes["flops"] == 0 < few.notes["flops"] <= 1e8 < more.notes["flops"] <= 1e9
    assert few.notes == again.notes
    assert np.array_equal(few.log_prob(held), again.log_prob(held))
    assert few.notes["validation_ll"] <= more.notes["validation_ll"]


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
    data, square = datasets.load("8gaussians"), datasets.bounds(*[(-16, 16)] * 2)
    train, val = data.train.numpy()[:1000], data.val.numpy()
    fitted = fit(BaselineEntry(**entry), train, 0, val, support=square)
    side = np.linspace(-16, 16, 300)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    log_prob, cell = fitted.log_prob(grid), (side[1] - side[0]) ** 2
    assert np.exp(log_prob).sum() * cell == pytest.approx(1, abs=2e-3)
    if "tried" in fitted.notes:
        rows = val[: fitted.notes["validation_rows"]]
        assert fitted.notes["validation_ll"] == pytest.approx(fitted.log_prob(rows).mean())
    own = fitted.log_prob(fitted.sample(4000))
    entropy = -np.exp(log_prob) @ log_prob * cell
    assert -own.mean() == pytest.approx(entropy, abs=5 * own.std() / 4000**0.5 + 2e-3)


def test_the_density_of_kernels_is_their_mean_and_its_bandwidth_the_best(rows) -> None:
    fitted = BASELINES["kde"].fit(rows[:500], 0, rows[500:])
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
        ({"flow": "kde", "preprocessing": "logit+nosuch"}, ["nosuch", "marginal"]),
        ({"flow": "gaussian", "effort": 1e9}, ["gaussian", "effort"]),
    ],
)
def test_an_entry_that_cannot_be_fitted_is_refused(entry, words) -> None:
    with pytest.raises(ValueError, match=words[0]) as error:
        BaselineEntry.model_validate(entry)
    assert words[1] in str(error.value)


def test_discrete_contexts_that_samples_have_in_single_precision_tell_nothing_apart():
    generator = np.random.default_rng(0)

    def rows(count: int) -> torch.Tensor:
        context = (generator.integers(0, 3, count) - 0.973) / 0.8163
        return torch.tensor(np.stack([generator.normal(size=count) + context, context], 1))

    data = datasets.Dataset("classes", 1, *map(rows, (900, 900, 900)), "", "", context_dim=1)
    samples = data.test.float().numpy()
    samples[:, 0] = generator.normal(size=900) + samples[:, 1]
    assert scoring.compare(samples, data, 900, 10, {})["told_apart"] < 0.6
