"""Inference over seeds and splits: against scipy, its coverage, and simulated referees."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.analysis import inference
from benchmarks.analysis.criteria import LEVEL, margin
from benchmarks.analysis.paired import by_ranks, compare, gap_of, rivals, robust, standing
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import series

NUMBERS = st.floats(-5, 5).map(lambda x: round(x, 3))
SAMPLES = st.lists(NUMBERS, min_size=2, max_size=8).filter(lambda x: np.ptp(x) > 0.01)
ROWS = {"train": 800, "val": 100, "test": 100}
TRIALS, SEEDS, DIM = 200, 5, 10
SCALE = 0.03  # nats, by which a training moves a likelihood, and so do its test rows


@given(SAMPLES)
def test_repetitions_without_overlap_are_students_t(values):
    estimate, test = inference.of_repetitions(values), scipy.stats.ttest_1samp(values, 0)
    assert estimate.p == pytest.approx(test.pvalue)
    low, high = test.confidence_interval(1 - LEVEL)
    assert estimate.half(LEVEL) == pytest.approx((high - low) / 2)


@given(SAMPLES, SAMPLES)
def test_samples_of_two_are_welchs_t(one, other):
    estimate = inference.of_samples(one, other)
    test = scipy.stats.ttest_ind(one, other, equal_var=False)
    assert estimate.p == pytest.approx(test.pvalue)
    assert estimate.freedom == pytest.approx(test.df)


@given(SAMPLES, st.floats(0.05, 5))
def test_equivalence_is_the_larger_of_two_one_sided_tests(values, bound):
    below = scipy.stats.ttest_1samp(values, bound, alternative="less").pvalue
    above = scipy.stats.ttest_1samp(values, -bound, alternative="greater").pvalue
    assert inference.of_repetitions(values).p_apart(bound) == pytest.approx(max(below, above))


@given(SAMPLES, st.floats(0, 2))
def test_overlap_widens_the_interval_alone(values, ratio):
    plain, corrected = inference.of_repetitions(values), inference.of_repetitions(values, ratio)
    assert corrected.value == plain.value
    factor = math.sqrt(1 + len(values) * ratio)
    assert corrected.half(LEVEL) == pytest.approx(factor * plain.half(LEVEL))


@given(SAMPLES)
def test_signed_ranks_are_wilcoxons(values):
    """Their sum is W, zeros ranked as by Pratt, whatever the scale."""
    x, n = np.array([0.0, *values]), len(values) + 1
    test = scipy.stats.wilcoxon(x, zero_method="pratt", alternative="greater", method="asymptotic")
    zeros = np.count_nonzero(x == 0)  # whose ranks belong to neither side
    total = (n * (n + 1) - zeros * (zeros + 1)) / 2
    w = 2 * test.statistic - total
    assert inference.signed_ranks(x).mean() == pytest.approx(w / (n * (n + 1) / 2))
    assert inference.signed_ranks(-3 * x).mean() == pytest.approx(-inference.signed_ranks(x).mean())


PANEL = np.meshgrid(np.log([2, 3, 4, 8, 16, 63]), np.arange(5), indexing="ij")  # 6 D, 5 lines


def test_a_common_slope_is_that_of_least_squares_with_a_level_for_each_line():
    """Its p-values are shares of the orders of x in which residuals correlate as much with x."""
    x, lines = (part.ravel()[:-2] for part in PANEL)  # some lines end earlier
    y = np.random.default_rng(0).normal(size=len(x)) + 0.5 * x + lines
    levels = (lines[:, None] == np.arange(5)).astype(float)
    trend = inference.of_parallel_lines(x, y, lines)
    assert trend.value == pytest.approx(np.linalg.lstsq(np.column_stack([x, levels]), y)[0][0])
    for slope in (-0.2, 0.4, 1.0):
        rest, steep = y - slope * x, []
        for order in itertools.permutations(np.unique(x)):
            moved = np.asarray(order)[np.searchsorted(np.unique(x), x)]
            within = moved - levels @ np.linalg.lstsq(levels, moved)[0]
            steep.append(within @ rest / np.linalg.norm(within))
        assert trend.p_most(slope) == np.mean(np.array(steep) >= steep[0] - 1e-9)
        assert trend.p_least(slope) == np.mean(np.array(steep) <= steep[0] + 1e-9)
    with pytest.raises(ValueError, match="three different x"):
        inference.of_parallel_lines(lines > 1, y, lines)


@pytest.mark.parametrize("shared", [0.0, 3.0])
def test_a_common_slope_keeps_its_level_where_points_of_an_x_have_errors_in_common(shared):
    """Of 90 % intervals 87 to 93 % cover the slope; and so where lines end earlier."""
    x, lines = (part.ravel()[:-2] for part in PANEL)
    rng, covered = np.random.default_rng(1), []
    for _ in range(1500):
        noise = rng.normal(size=(6, 5)) + shared * rng.normal(size=(6, 1))
        trend = inference.of_parallel_lines(x, 0.3 * x + noise.ravel()[:-2], lines)
        low, high = trend.interval(0.1)
        covered.append(low <= 0.3 <= high)
    assert 0.87 <= np.mean(covered) <= 0.93


@given(SAMPLES, st.integers(2, 5))
def test_rows_that_are_repeated_are_no_evidence(values, times):
    groups = np.repeat(np.arange(len(values)), times)
    repeated, plain = inference.of_rows(np.repeat(values, times), groups), inference.of_rows(values)
    assert (repeated.error, repeated.freedom) == pytest.approx((plain.error, plain.freedom))


def test_holm_is_the_closed_test_of_bonferroni():
    """A hypothesis is rejected if every set that it is in has a p-value below level / size.

    What is not tested is NaN, and does not count.
    """
    generator = np.random.default_rng(0)
    for _ in range(50):
        p = generator.uniform(size=5) ** 3
        untested, *corrected = inference.holm([math.nan, *p])
        assert math.isnan(untested)
        for index, adjusted in enumerate(corrected):
            sets = [s for s in range(1, 32) if s >> index & 1]
            members = [[i for i in range(5) if s >> i & 1] for s in sets]
            worst = max(min(1.0, len(m) * min(p[i] for i in m)) for m in members)
            assert adjusted == pytest.approx(worst)


@pytest.mark.parametrize(
    ("value", "error", "name"),
    [(1, 0.1, "ahead"), (-1, 0.1, "behind"), (0.01, 0.01, "level"), (0.01, 1, "open"),
     (0, 0, "level"), (1, 0, "ahead"), (9, math.nan, "open")],
)  # fmt: skip
def test_a_comparison_is_decided_by_its_interval(value, error, name):
    estimate = inference.Estimate(value, error, 4)
    assert inference.standings({"a": (estimate, 0.2)}, LEVEL) == {"a": name}


def models(values: np.ndarray, split="random", rows=None, sizes=ROWS) -> list[pd.DataFrame]:
    """Cases of two models, from test log-likelihoods (2, seeds), each on a split of its own.

    With log-densities of ``rows`` (2, seeds, n) these are the arrays of the records.
    """
    frames, notes = [], {"data": {"split": split, "rows": sizes}}
    for model, lls in enumerate(values):
        seeds = range(len(lls))
        about = {"key": [f"{model}-{seed}" for seed in seeds], "seed": seeds, "data_seed": seeds}
        about |= {"dim": DIM, "updates": 500, "test_ll": lls, "notes": [notes] * len(lls)}
        arrays = None if rows is None else [{"test_log_prob": x} for x in rows[model]]
        frames.append(pd.DataFrame(about | {"arrays": arrays}))
    return frames


@given(SAMPLES, NUMBERS)
def test_what_a_split_does_to_both_cancels(differences, spread):
    """Pairs by split, corrected for overlap where splits are of one table; not where draws are."""
    shared = spread * np.arange(len(differences))
    values = np.array([shared + differences, shared])
    for split, ratio in (("random", 1 / 8), ("drawn", 0.0), ("disjoint", 0.0)):
        estimate = compare(*models(values, split)).estimate
        expected = inference.of_repetitions(differences, ratio)
        assert (estimate.value, estimate.error) == pytest.approx((expected.value, expected.error))


def test_models_on_other_splits_are_compared_without_pairs():
    values = np.random.default_rng(0).standard_normal((2, 4))
    one, other = models(values)
    other = other.assign(seed=other["seed"] + 4, data_seed=other["data_seed"] + 4)
    comparison = compare(one, other)
    assert comparison.basis == "different splits"
    assert comparison.estimate == inference.of_samples(*values)


@pytest.mark.parametrize("split", ["random", "drawn", "published"])
def test_one_seed_judges_nothing(split):
    """Its interval over test rows is known all the same."""
    rows = np.random.default_rng(0).standard_normal((2, 1, 100)) * 0.01 + [[[9.0]], [[0.0]]]
    comparison = compare(*models(rows.mean(2), split, rows=rows))
    assert comparison.basis == "rows"
    assert comparison.half < 0.1
    assert standing({"": comparison}) == {"": "open"}


def test_where_one_row_decides_a_mean_the_ranks_say_so():
    """By it the better model is behind; the table has its median, and names the row."""
    rows = np.random.default_rng(0).standard_normal((2, SEEDS, 200)) * 0.1
    rows[0] += 1.0
    plain = compare(*models(rows.mean(2), "drawn", rows=rows))
    assert standing({"": plain}) == {"": "ahead"}
    assert not by_ranks({"": plain})
    assert not robust(*reversed(models(rows.mean(2), rows=rows)), 0.05)
    rows[0, 3, 17] = -1e6
    one, other = models(rows.mean(2), "drawn", rows=rows)
    comparison = compare(one, other)
    assert comparison.estimate.value < 0
    assert standing({"": comparison}) == {"": "open"}
    assert by_ranks({"": comparison}) == {"": "ahead"}
    summary = robust(other, one, 0.05)
    assert summary["median"] == pytest.approx(1.0, abs=0.05)
    assert summary["trimmed"] == pytest.approx(1.0, abs=0.05)
    assert summary["worst"] == "-1,000,000: row 17 of split 3"


def test_a_model_that_lacks_hard_splits_is_not_the_best():
    one, other = models(np.array([[1.0, 0.0, 0.0], [0.9, -0.2, -0.2]]))
    assert rivals({"one": one, "other": other.iloc[:1]})[0] == "one"


def test_a_gaussian_is_not_level_with_two_modes():
    """Which are worth 0.17 nats in any dimension; one is level with what gains nothing over it."""
    for gap, bound, how in ((0.17, 0.01, "ahead"), (0.005, 0.01, "level"), (9.0, 0.05, "ahead")):
        one, other = models(np.array([[gap] * 4, [0.0] * 4]))
        sides = one.assign(flow="maf"), other.assign(flow="gaussian")
        assert gap_of(sides) == pytest.approx(gap)
        comparison = compare(*sides, gap=gap_of(sides))
        assert comparison.margin == pytest.approx(bound)
        assert standing({"": comparison}) == {"": how}
    assert [margin(dim) for dim in (2, 20, 500)] == [0.02, 0.05, 0.05]


SPLITS = {  # sizes; what a training set moves, beside the test rows' 1; a lead, in nats
    "random": (ROWS, 0.5, 0.2),
    "overlapping": ({"train": 500, "val": 0, "test": 500}, 1.0, 0.3),  # correlated by a third
    "drawn": (ROWS, 0.5, 0.2),
    "published": (ROWS, 0.5, 0.2),
}


def trial(split: str, generator: np.random.Generator, lead: float) -> tuple[str, str]:
    """How a model stands to its like by means and by ranks.

    Likelihoods are those of splits of rows, plus a lead. A row is harder for one model by chance,
    and a row that trains it moves all of its scores. Training and test rows are those of one table
    in random splits, new ones in draws, and the same at every seed of a published split.
    """
    rows_of, share, _ = SPLITS[split]
    total, tests = sum(rows_of.values()), rows_of["test"]
    table = generator.standard_normal((2, 2, total))  # rows as test rows, as training rows; models
    scores = []
    for _ in range(SEEDS):
        if split == "drawn":
            table = generator.standard_normal((2, 2, total))
        order = generator.permutation(total) if split != "published" else np.arange(total)
        test, train = order[:tests], order[-rows_of["train"] :]
        noise = generator.standard_normal((2, 1))  # of the training
        moved = share * table[1][:, train].sum(1, keepdims=True) / math.sqrt(rows_of["train"])
        scores.append(SCALE * (noise + moved + math.sqrt(tests) * table[0][:, test]))
    rows = np.stack(scores, axis=1)
    rows[0] += lead
    kind = "random" if split == "overlapping" else split
    comparison = {"": compare(*models(rows.mean(2), kind, rows, rows_of))}
    how = standing(comparison)[""]
    return how, by_ranks(comparison).get("", how)


@pytest.mark.parametrize("split", SPLITS)
def test_equal_flows_seldom_lead_and_a_planted_lead_is_seen(split):
    """A/A: a lead in at most 18 of 200 trials; planted: in 160 or more, by either test."""
    generator = np.random.default_rng(0)
    same = [trial(split, generator, 0.0) for _ in range(TRIALS)]
    better = [trial(split, generator, SPLITS[split][2]) for _ in range(TRIALS)]
    for stands, leads in zip(zip(*same, strict=True), zip(*better, strict=True), strict=True):
        assert stands.count("ahead") + stands.count("behind") <= 18
        assert leads.count("ahead") >= 160
        assert leads.count("behind") == 0


def test_the_interval_of_a_ratio_covers_it():
    generator, covered = np.random.default_rng(0), 0
    for seed in range(200):
        a, b = (scale * generator.lognormal(0, 0.3, 25) for scale in (3.0, 2.0))
        value, low, high = inference.ratio_of_medians(a, b, 300, seed)
        covered += low <= 1.5 <= high
        doubled = inference.ratio_of_medians(2 * a, b, 300, seed)
        assert doubled == pytest.approx((2 * value, 2 * low, 2 * high))
    assert 0.88 <= covered / 200 <= 1.0


def test_times_are_in_seconds_or_rates():
    for name, metric in METRICS.items():
        assert metric.kind != "time" or metric.unit in ("s", "1/s"), name


def test_a_series_is_named_by_what_tells_its_variants_apart():
    solvers = [{"method": "rk4", "gradient": g} for g in ("adjoint", "backprop", "adjoint")]
    frame = pd.DataFrame({"flow": ["cnf", "cnf", "glow"], "option.solver": solvers})
    frame["option.hidden"] = 8
    assert series(frame) == ["cnf gradient=adjoint", "cnf gradient=backprop", "glow"]
    frame["updates"], frame["setting.training"] = [5, 6, 5], [{"clip": 1.0}] * 3
    named = series(frame)
    assert all("gradient=" in n and "updates=" in n for n in named[:2])
    frame["option.solver"], frame["updates"] = [solvers[0]] * 3, 5
    assert series(frame) == ["cnf", "cnf", "glow"]  # two seeds of one configuration
    frame["setting.preprocessing"] = [float("nan"), "radial", float("nan")]
    assert series(frame) == ["cnf", "cnf preprocessing=radial", "glow"]
