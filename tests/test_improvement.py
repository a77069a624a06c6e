"""Undertraining: the statistic on curves with known answers, trainings, marks, and verdicts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import datasets
from benchmarks.analysis.contests import contests
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.improvement import (
    ERROR,
    FREEDOM,
    GAIN,
    MARK,
    MARKS,
    gain_of,
    improving,
)
from benchmarks.analysis.improvement import gain_per_doubling as estimate
from benchmarks.claims import Claim, claims, registry
from benchmarks.claims.trained import LEADS
from benchmarks.core.case import Case
from benchmarks.core.naming import BUDGET
from benchmarks.measure.calls import prepare
from benchmarks.studies.density.tables import tables
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from claim_examples import EXAMPLES, densities, searched

EFFORT = np.linspace(1000, 1200, 6)
KNOWN = {GAIN: 0.5, ERROR: 0.01, FREEDOM: 4.0}  # of a training that is still improving
CLAIMS = [claim for claim in claims() if claim.id in LEADS]


def curves(mean: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Log-densities (K, N) of which the means over rows are these, with noise of each window."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=400)
    rows -= rows.mean()
    return (mean + noise * generator.normal(size=len(mean)))[:, None] + rows


def trained(updates: int, rate: float, continuation: float) -> tuple[dict[str, Any], Any]:
    """Train a Gaussian's flow; return its weights and history."""
    data = datasets.load("gaussian_8")
    sizes = {"dim": 8, "batch": 256, "updates": updates, "options": {"hidden": 8, "layers": 1}}
    case = Case(study="density", flow="maf", dataset="gaussian_8", **sizes)
    flow = prepare(case, data.train.float())
    settings = Training(learning_rate=rate, validations=2, keep="last")
    history = train(flow, data, case, settings, continuation=continuation)
    return copy.deepcopy(flow.state_dict()), history


def test_a_rise_in_the_logarithm_of_the_effort_is_found_exactly() -> None:
    gain = estimate(curves(-2 + 0.3 * np.log2(EFFORT)), EFFORT)
    assert gain.value == pytest.approx(0.3)
    assert gain.error == pytest.approx(0, abs=1e-9)
    assert estimate(curves(np.full(6, -2.0)), EFFORT).value == pytest.approx(0, abs=1e-9)


def test_its_interval_covers_the_truth_as_often_as_it_says() -> None:
    repetitions = [
        estimate(curves(0.1 * np.log2(EFFORT), 0.01, seed), EFFORT) for seed in range(1000)
    ]
    covered = np.mean([abs(g.value - 0.1) < g.half(LEVEL) for g in repetitions])
    assert covered == pytest.approx(1 - LEVEL, abs=0.02)


def test_rows_that_disagree_and_depend_on_each_other_widen_it() -> None:
    slopes = np.repeat(np.random.default_rng(0).normal(size=40), 10)  # equal within a group
    values = np.log2(EFFORT)[:, None] * slopes
    errors = [estimate(values, EFFORT, groups).error for groups in (None, np.arange(400) // 10)]
    assert errors[0] == pytest.approx(slopes.std(ddof=1) / 20)
    assert errors[1] == pytest.approx(slopes[::10].std(ddof=1) / np.sqrt(40))


def test_a_short_training_was_improving_and_a_long_one_was_not() -> None:
    short, long = (trained(*how, 0.3)[1].gain for how in ((100, 1e-3), (400, 3e-2)))
    rows = [{"dim": 8, GAIN: g.value, ERROR: g.error, FREEDOM: g.freedom} for g in (short, long)]
    assert [improving(pd.DataFrame([row])) for row in rows] == [True, False]


def test_a_continuation_changes_nothing_else() -> None:
    torch.manual_seed(0)
    (weights, history), (others, other) = (trained(100, 1e-2, share) for share in (0.0, 0.1))
    assert history.gain is None
    assert other.gain is not None
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    for name in ("losses", "validated", "validation_ll", "updates", "counts"):
        assert getattr(history, name) == getattr(other, name)


def test_seeds_are_pooled_and_old_records_are_not_known() -> None:
    seeds = pd.DataFrame([{"dim": 2, **KNOWN, GAIN: gain} for gain in (0.1, 0.3)])
    gain = gain_of(seeds)
    assert gain is not None
    assert (gain.value, gain.error, gain.freedom) == pytest.approx((0.2, 0.01 / np.sqrt(2), 8))
    assert improving(seeds)
    assert improving(seeds.drop(columns=GAIN)) is None
    assert improving(seeds.assign(**{GAIN: [0.3, np.nan]})) is None


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_what_twice_the_updates_might_turn_is_open(claim: Claim) -> None:
    _, make = EXAMPLES[claim.id][1]  # refuted
    own = make()
    large = {**KNOWN, GAIN: 2.0}  # more than any lead
    rows = own.assign(**{name: own["updates"].gt(0) * value for name, value in large.items()})
    verdict = claim.verdict(rows)
    assert verdict.outcome == "undecided"
    assert "Twice the updates" in verdict.weakness
    assert set(verdict.records) <= set(own["key"])
    files = own.assign(dataset="my.csv")
    assert claim.verdict(files).outcome == "not_measured"


def test_a_search_is_judged_by_its_longest_trainings() -> None:
    """Trainings of smaller budgets that were still improving take nothing from a verdict."""
    own, claim = searched({"ffjord": 0.4, "glow": 0.0}), registry["data-glow-ffjord"]
    for budget, expected in ((15.0, "confirmed"), (60.0, "undecided")):
        late = own[BUDGET] == budget
        rows = own.assign(**{name: value * late for name, value in KNOWN.items()})
        assert claim.verdict(rows).outcome == expected


def test_a_gain_that_does_not_come_back_to_the_best_weights_is_none() -> None:
    seeds = pd.DataFrame([{"dim": 2, "val_ll": -1.0, **KNOWN, GAIN: 0.5}])
    for end, expected in ((-1.0, True), (-1.4, True), (-1.5, False), (-9.0, False)):
        curve = {"validation_ll": np.array([-2.0, -1.0, end])}
        assert improving(seeds.assign(arrays=[curve])) is expected


@pytest.mark.parametrize(
    ("levels", "late", "expected"),
    [
        ({"cnf": 1.0, "maf": 0.0, "glow": 0.4}, "glow", "confirmed"),  # 0.5 more do not reach cnf
        ({"cnf": 1.0, "maf": 0.0, "glow": 0.6}, "glow", "undecided"),
        ({"cnf": 1.0, "maf": 0.0, "glow": 2.0}, "glow", "refuted"),  # a lead can but grow
        ({"cnf": 1.0, "maf": 0.0, "glow": 1.4}, "cnf", "undecided"),
        ({"cnf": 1.0, "maf": 0.0, "glow": 1.6}, "cnf", "refuted"),
        ({"cnf": 1.0, "maf": 0.0, "glow": 1.0}, "glow", "refuted"),  # level: cnf can but fall
    ],
)
def test_a_likelihood_that_was_improving_is_a_lower_bound(
    levels: dict[str, float], late: str, expected: str
) -> None:
    """A standing counts if twice the updates of no model might turn it."""
    rows = densities(levels)
    own = rows["flow"] == late
    rows = rows.assign(**{name: value * own for name, value in KNOWN.items()})
    verdict = registry["continuous-powerful"].verdict(rows)
    assert verdict.outcome == expected
    assert (late in verdict.weakness) is (expected == "undecided")


def test_the_best_of_a_kind_is_chosen_on_the_splits_that_all_of_it_have() -> None:
    rows = densities({"cnf": 0.0, "maf": 0.0, "glow": 0.5})
    rows = rows[(rows["flow"] != "maf") | (rows["seed"] > 2)]  # of the splits with high values
    rows = rows.assign(val_ll=rows["val_ll"] + 10.0 * rows["data_seed"])
    for contest in contests(rows, rows["flow"] == "cnf", rows["flow"] != "cnf"):
        assert set(contest.other["flow"]) == {"glow"}


def test_an_undertrained_row_is_marked_and_never_bold() -> None:
    _, make = EXAMPLES["data-glow-ffjord"][0]
    example = make()
    rows = example.assign(test_ll_se=0.01, train_updates=example["updates"])
    for study_tables, expected in ((tables(rows), False), (tables(rows.assign(**KNOWN)), True)):
        overview, *_ = study_tables
        marked = [c for c in overview.frame if c.startswith("mark.")]
        leads = [c for c in overview.frame if c.startswith("leads.")]
        assert overview.frame[marked].isin([MARK]).any(axis=None) == expected
        assert overview.frame[leads].any(axis=None) != expected
        assert (MARK in overview.note) == expected
    assert MARKS in study_tables[1].frame
