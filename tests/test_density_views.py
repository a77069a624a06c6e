"""Tables of densities, made of records alone: pairs, marks, matched budgets, what is matched."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.analysis import paired
from benchmarks.analysis.criteria import LEVEL
from benchmarks.core import store
from benchmarks.core.case import Case, Seeds
from benchmarks.core.frame import load
from benchmarks.report.cells import grid
from benchmarks.studies.density import tables as density
from benchmarks.studies.density.figures import training
from benchmarks.training.baselines import BASELINES
from records import record_of

ROWS = 400
SIZES = {"train": 800, "val": 100, "test": ROWS}
ABOUT = {
    "about": "Made up.", "units": "raw units", "entropy": None, "split": "drawn", "rows": SIZES,
}  # fmt: skip
PUBLISHED = {"data": ABOUT | {"split": "published"}}


def record(folder, flow, ll, *, seed=0, noise=None, metrics=None, curve=None, notes=None, **case):
    """A record of the study density whose test rows have mean ``ll``."""
    chosen = Case(
        study="density", flow=flow, dim=2, dataset="made_up", batch=8,
        updates=0 if flow in BASELINES else 100,
        seeds=Seeds.of(seed) if isinstance(seed, int) else seed, **case,
    )  # fmt: skip
    rows = np.zeros(ROWS) if noise is None else noise
    arrays = {"test_log_prob": (ll + rows).astype(np.float32), **(curve or {})}
    values = {
        "test_ll": float(arrays["test_log_prob"].mean()),
        "test_ll_se": 0.5,
        **(metrics or {}),
    }
    entry = record_of(chosen, values, notes={"data": ABOUT, **(notes or {})})
    store.write(folder, entry, arrays)


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
    cells = grid(table)
    return [row[0].text for row in cells.rows if any(cell.best for cell in row)]


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


def test_several_seeds_are_paired_by_seed_and_the_test_set_has_its_own_error(tmp_path):
    """In a table; one seed of another model shows its rows' error, and decides nothing."""
    for seed, luck in enumerate((0.0, 0.5, 1.0)):
        record(tmp_path, "maf", -1.0 + luck, seed=seed)
        record(tmp_path, "iaf", -1.1 + luck - 0.01 * seed, seed=seed)
        record(tmp_path, "cnf", -1.0 + luck - 0.001 * seed, seed=seed)
    record(tmp_path, "glow", -2.0, noise=np.random.default_rng(0).standard_normal(ROWS))
    table = tables(tmp_path)["density-made_up"]
    rows = table.frame.set_index("model")
    half = stats.t.isf(LEVEL / 2, 2) / 3**0.5
    assert rows.loc["maf", density.OVER_SEEDS] == pytest.approx(0.5 * half, rel=1e-3)
    assert rows.loc["maf", density.OVER_ROWS] == 0.5
    assert rows.loc["iaf", "behind_half"] == pytest.approx(0.01 * half, rel=1e-3)
    assert rows.loc["glow", "behind_half"] == pytest.approx(2 / ROWS**0.5, rel=0.1)
    assert rows["standing"].dropna().to_dict() == {
        "cnf": "level", "iaf": "behind", "glow": "not decided",
    }  # fmt: skip
    assert not bold(table)
    assert density.OVER_ROWS in table.shown


def test_seeds_that_agree_do_not_hide_what_the_test_rows_leave_open(tmp_path):
    """Where all seeds share one published split."""
    one, other = np.random.default_rng(0).standard_normal((2, ROWS))
    for seed in range(3):
        record(tmp_path, "maf", -1.0, seed=seed, noise=one - one.mean(), notes=PUBLISHED)
        record(tmp_path, "iaf", -1.1, seed=seed, noise=other - other.mean(), notes=PUBLISHED)
    frame = load(tmp_path).set_index("flow", drop=False)
    estimate = paired.compare(frame.loc[["maf"]], frame.loc[["iaf"]]).estimate
    assert (estimate.value, estimate.error) == pytest.approx((0.1, (2 / ROWS) ** 0.5), rel=0.1)


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


def test_budgets_are_read_off_the_curves_where_all_have_been(tmp_path):
    """The cheaper one ends at 40 FLOP and 4 s; the other then has its best of what came before."""
    record(tmp_path, "maf", -1.0, curve=curve([-9, -5, -4], [0, 20, 40], [0, 3, 6]))
    record(tmp_path, "iaf", -1.0, curve=curve([-8, -3, -3.5, -1], [0, 15, 35, 60], [0, 1, 2, 4]))
    frame = tables(tmp_path)["density-budget-made_up"].frame.set_index("model")
    assert frame["ll_at_flops"].to_dict() == {"iaf": -3, "maf": -4}
    assert frame["ll_at_seconds"].to_dict() == {"iaf": -1, "maf": -5}
    assert frame["updates_at_flops"].to_dict() == {"iaf": 20, "maf": 20}
    assert not bold(tables(tmp_path)["density-budget-made_up"])  # one seed: nothing is paired


def test_budgets_of_several_seeds_are_paired_by_seed(tmp_path):
    for seed in range(3):
        for flow, ahead in (("maf", 0.1), ("iaf", 0.001 * seed)):
            lls = [-9, seed + ahead]
            record(tmp_path, flow, -1.0, seed=seed, curve=curve(lls, [0, 10], [0, 1]))
    table = tables(tmp_path)["density-budget-made_up"]
    assert bold(table) == ["maf"]


def test_a_flow_that_is_not_validated_within_the_budget_is_said_to_be_untrained(tmp_path):
    for seed in range(3):
        record(tmp_path, "maf", -1.0, seed=seed, curve=curve([-9, -2], [0, 10], [0, 1]))
        record(tmp_path, "cnf", -1.0, seed=seed, curve=curve([-8, -1], [0, 99], [0, 1]))
        record(tmp_path, "ffjord", -1.0, seed=seed, curve=curve([-8, -1], [0, 0], [0, 1]))
    table = tables(tmp_path)["density-budget-made_up"]
    rows = table.frame.set_index("model")["ll_at_flops"]
    assert rows.to_dict() == {"maf": -2, "cnf": density.UNTRAINED, "ffjord": -1}
    assert bold(table) == ["ffjord"]
