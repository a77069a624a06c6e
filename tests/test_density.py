"""The density study: tables of pairs, budgets and marks; trainings that were still improving."""

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import datasets
from benchmarks.analysis import paired
from benchmarks.analysis.contests import contests, efforts
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.improvement import ERROR, FREEDOM, GAIN, MARK, MARKS, gain_of, improving
from benchmarks.analysis.improvement import gain_per_doubling as estimate
from benchmarks.claims import by_budget, claims
from benchmarks.claims.trained import LEADS
from benchmarks.core import store
from benchmarks.core.case import Case, Seeds
from benchmarks.core.frame import load
from benchmarks.core.naming import BUDGET
from benchmarks.measure.calls import prepare
from benchmarks.report.cells import grid
from benchmarks.studies.density import tables as density
from benchmarks.studies.density.figures import training
from benchmarks.training.baselines import BASELINES
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from claim_examples import EXAMPLES, densities, timed_example
from records import record_of

ROWS = 400
SIZES = {"train": 800, "val": 100, "test": ROWS}
ABOUT = {
    "about": "Made up.", "units": "raw units", "entropy": None, "split": "drawn", "rows": SIZES,
}  # fmt: skip
EFFORT = np.linspace(1000, 1200, 6)
KNOWN = {GAIN: 0.5, ERROR: 0.01, FREEDOM: 4.0}  # of a training that is still improving
CLAIMS = [claim for claim in claims() if claim.id in LEADS]


def record(folder, flow, ll, *, seed=0, metrics=None, curve=None, **case):
    """A record of the study density whose test rows have mean ``ll``."""
    chosen = Case(
        study="density", flow=flow, dim=2, dataset="made_up", batch=8,
        updates=0 if flow in BASELINES else 100,
        seeds=Seeds.of(seed) if isinstance(seed, int) else seed, **case,
    )  # fmt: skip
    arrays = {"test_log_prob": np.full(ROWS, ll, np.float32), **(curve or {})}
    values = {"test_ll": ll, "test_ll_se": 0.5, **(metrics or {})}
    store.write(folder, record_of(chosen, values, notes={"data": ABOUT}), arrays)


def curve(lls, flops, seconds) -> dict[str, np.ndarray]:
    return {
        "validation_ll": np.array(lls),
        "validation_se": np.full(len(lls), 0.1),
        "validation_flops": np.array(flops, dtype=float),
        "validation_seconds": np.array(seconds, dtype=float),
        "validated": 10 * np.arange(len(lls)),
    }


def tables(folder) -> dict[str, object]:
    return {table.name: table for table in density.tables(load(folder))}


def bold(table) -> list[str]:
    return [row[0].text for row in grid(table).rows if any(cell.best for cell in row)]


@pytest.mark.parametrize("loss", [np.nan, np.inf, 0.0, 1e30])
def test_a_loss_that_is_no_curve_is_drawn(tmp_path, loss):
    """Of a training that diverged at once: without a warning."""
    losses = np.full(20, loss, dtype=np.float32)
    record(tmp_path, "maf", -1.0, curve={**curve([-3, -2], [1, 2], [1, 2]), "losses": losses})
    (figure,) = training(load(tmp_path))
    assert figure.draw()


@pytest.mark.parametrize("shared", [True, False])
def test_bold_goes_by_the_paired_difference(tmp_path, shared):
    """A lead of 0.5 under a spread of 3: seen where a split is hard for both alike."""
    luck = 3 * np.random.default_rng(0).standard_normal((2, 4))
    for seed in range(4):
        record(tmp_path, "maf", 9 + luck[0, seed], seed=seed)
        record(tmp_path, "iaf", 8.5 + 0.01 * seed + luck[0 if shared else 1, seed], seed=seed)
    views = tables(tmp_path)
    assert bold(views["density-made_up"]) == (["maf"] if shared else [])
    assert bold(views["density"]) == (["maf"] if shared else [])
    behind = views["density-made_up"].frame.iloc[1]
    assert behind["standing"] == ("behind" if shared else "not decided")


def test_a_baseline_stands_beside_every_training_on_its_split(tmp_path):
    """Of seeds that share one split it was fitted once."""
    for seed in range(3):
        streams = {"init": seed, "noise": seed, "batches": seed}
        record(tmp_path, "maf", -1.0 - 0.01 * seed, seed=streams)
    record(tmp_path, "gaussian", -2.0)
    frame = load(tmp_path).set_index("flow", drop=False)
    comparison = paired.compare(frame.loc[["maf"]], frame.loc[["gaussian"]])
    assert (comparison.basis, comparison.seeds) == ("trainings", 3)
    assert comparison.estimate.value == pytest.approx(0.99)
    assert bold(tables(tmp_path)["density-made_up"]) == ["maf"]


@pytest.mark.parametrize(("gap", "marked"), [(-0.02, False), (-0.04, True), (0.04, False)])
def test_a_flow_above_the_truth_is_flagged(tmp_path, gap, marked):
    record(tmp_path, "maf", -1.0, metrics={"gap": gap, "gap_se": 0.01})
    table = tables(tmp_path)["density-made_up"]
    assert (density.MARK in table.note) == marked
    cell = grid(table).rows[0][list(table.shown).index("gap")]
    assert cell.text.endswith(density.MARK) == marked
    assert cell.value == gap


def test_budgets_are_paired_by_seed_and_what_is_not_validated_by_then_is_untrained(tmp_path):
    for seed in range(3):
        record(tmp_path, "maf", -1.0, seed=seed, curve=curve([-9, seed - 3], [0, 10], [0, 1]))
        record(tmp_path, "cnf", -1.0, seed=seed, curve=curve([-8, seed - 2], [0, 99], [0, 1]))
        record(tmp_path, "ffjord", -1.0, seed=seed, curve=curve([-8, seed - 2], [0, 0], [0, 1]))
    table = tables(tmp_path)["density-budget-made_up"]
    rows = table.frame.set_index("model")["ll_at_flops"]
    assert rows.to_dict() == {"maf": -2, "cnf": density.UNTRAINED, "ffjord": -1}
    assert bold(table) == ["ffjord"]


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


def test_a_rise_in_the_logarithm_of_the_effort_is_found_exactly():
    gain = estimate(curves(-2 + 0.3 * np.log2(EFFORT)), EFFORT)
    assert gain.value == pytest.approx(0.3)
    assert gain.error == pytest.approx(0, abs=1e-9)
    assert estimate(curves(np.full(6, -2.0)), EFFORT).value == pytest.approx(0, abs=1e-9)


def test_its_interval_covers_the_truth_as_often_as_it_says():
    truth = 0.1 * np.log2(EFFORT)
    gains = (estimate(curves(truth, 0.01, seed), EFFORT) for seed in range(1000))
    covered = np.mean([abs(g.value - 0.1) < g.half(LEVEL) for g in gains])
    assert covered == pytest.approx(1 - LEVEL, abs=0.02)


def test_rows_that_disagree_and_depend_on_each_other_widen_it():
    slopes = np.repeat(np.random.default_rng(0).normal(size=40), 10)  # equal within a group
    values = np.log2(EFFORT)[:, None] * slopes
    errors = [estimate(values, EFFORT, groups).error for groups in (None, np.arange(400) // 10)]
    assert errors[0] == pytest.approx(slopes.std(ddof=1) / 20)
    assert errors[1] == pytest.approx(slopes[::10].std(ddof=1) / np.sqrt(40))


def test_a_short_training_was_improving_and_a_long_one_was_not():
    short, long = (trained(*how, 0.3)[1].gain for how in ((100, 1e-3), (400, 3e-2)))
    rows = [{"dim": 8, GAIN: g.value, ERROR: g.error, FREEDOM: g.freedom} for g in (short, long)]
    assert [improving(pd.DataFrame([row])) for row in rows] == [True, False]


def test_a_continuation_changes_nothing_else():
    (weights, history), (others, other) = (trained(100, 1e-2, share) for share in (0.0, 0.1))
    assert history.gain is None
    assert other.gain is not None
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    for name in ("losses", "validated", "validation_ll", "updates", "counts"):
        assert getattr(history, name) == getattr(other, name)


def test_seeds_are_pooled_and_old_records_are_not_known():
    seeds = pd.DataFrame([{"dim": 2, **KNOWN, GAIN: gain} for gain in (0.1, 0.3)])
    gain = gain_of(seeds)
    assert (gain.value, gain.error, gain.freedom) == pytest.approx((0.2, 0.01 / np.sqrt(2), 8))
    assert improving(seeds)
    assert improving(seeds.drop(columns=GAIN)) is None
    assert improving(seeds.assign(**{GAIN: [0.3, np.nan]})) is None


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_what_was_still_improving_is_a_note_and_moves_no_verdict(claim):
    for expected, make in EXAMPLES[claim.id][:2]:
        own = make()
        rows = own.assign(**{name: own["updates"].gt(0) * value for name, value in KNOWN.items()})
        verdict = claim.verdict(rows)
        assert verdict.outcome == expected
        assert "Still improving" in verdict.weakness
        assert set(verdict.records) <= set(own["key"])
        assert claim.verdict(own.assign(dataset="my.csv")).outcome == "not_measured"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_longer_budget_on_fewer_splits_takes_nothing_from_a_verdict(claim):
    _, make = EXAMPLES[claim.id][-1]  # a search, refuted at its last budget
    own = make()
    reverse = EXAMPLES[claim.id][-2][1]()
    later = reverse[reverse[BUDGET] == 60].assign(**{BUDGET: 300.0})
    later["key"] += "-300"
    for splits, expected in ((3, "refuted"), (5, "confirmed")):
        rows = pd.concat([own, later[later["data_seed"] < splits]], ignore_index=True)
        verdict = claim.verdict(rows)
        assert verdict.outcome == expected
        assert [part.judged for part in verdict.parts] == [True, True, splits == 5] * 2
        cells = by_budget({claim.title: verdict}).frame.iloc[0]
        assert cells["60 s"] == "refuted, 0 of 2: −2.00 nats"
        assert ("3 splits" in cells["300 s"]) == (splits == 3)


def test_a_gain_that_does_not_come_back_to_the_best_weights_is_none():
    seeds = pd.DataFrame([{"dim": 2, "val_ll": -1.0, **KNOWN, GAIN: 0.5}])
    for end, expected in ((-1.0, True), (-1.4, True), (-1.5, False), (-9.0, False)):
        for rows in (0.0, 0.7, -0.7):  # what those of the curve have more than all
            curve = {"validation_ll": np.array([-2.0, -1.0, end]) + rows}
            assert improving(seeds.assign(arrays=[curve])) is expected


def test_costs_do_not_depend_on_the_rows_of_a_curve():
    example = timed_example({"cnf": 0.1, "glow": 1.0})
    example = example[example["dataset"] == example["dataset"].iloc[0]].assign(val_ll=-1.0)
    first, second = (rows.assign(series=name) for name, rows in example.groupby("flow"))
    for rows in (0.0, 0.3, -0.3):  # what those of the first curves have more than all
        points = {"validation_ll": np.array([-2.0, -1.2, -1.0])}
        points["validation_cpu_seconds"] = np.array([0.0, 1.0, 2.0])
        arrays = [{**points, "validation_ll": points["validation_ll"] + rows}] * len(first)
        sides = efforts([first.assign(arrays=arrays), second.assign(arrays=[points] * len(second))])
        assert [set(side["cost"]) for side in sides] == [{2.0}, {2.0}]


def test_the_best_of_a_kind_is_chosen_on_the_splits_that_all_of_it_have():
    rows = densities({"cnf": 0.0, "maf": 0.0, "glow": 0.5})
    rows = rows[(rows["flow"] != "maf") | (rows["seed"] > 2)]  # of the splits with high values
    rows = rows.assign(val_ll=rows["val_ll"] + 10.0 * rows["data_seed"])
    for contest in contests(rows, rows["flow"] == "cnf", rows["flow"] != "cnf"):
        assert set(contest.other["flow"]) == {"glow"}


def test_an_undertrained_row_is_marked_and_never_bold():
    _, make = EXAMPLES["data-glow-ffjord"][0]
    example = make()
    rows = example.assign(test_ll_se=0.01, train_updates=example["updates"])
    for made_up, expected in ((rows, False), (rows.assign(**KNOWN), True)):
        overview, first, *_ = density.tables(made_up)
        marked = [c for c in overview.frame if c.startswith("mark.")]
        leads = [c for c in overview.frame if c.startswith("leads.")]
        assert overview.frame[marked].isin([MARK]).any(axis=None) == expected
        assert overview.frame[leads].any(axis=None) != expected
        assert (MARK in overview.note) == expected
    assert MARKS in first.frame
