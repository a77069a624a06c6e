"""Tables of densities, made of records alone: pairs, marks, matched budgets, what is matched."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.analysis import paired
from benchmarks.analysis.contests import contests
from benchmarks.core import store
from benchmarks.core.case import Case, Seeds
from benchmarks.core.frame import load
from benchmarks.report.cells import grid
from benchmarks.studies.density import costs
from benchmarks.studies.density import tables as density
from benchmarks.studies.density.figures import training
from benchmarks.training.baselines import BASELINES
from records import record_of

ROWS = 400
ABOUT = {"about": "Made up.", "units": "raw units", "entropy": None}


def record(folder, flow, ll, *, seed=0, noise=None, metrics=None, curve=None, notes=None, **case):
    """A record of the study density whose test rows have mean ``ll``."""
    chosen = Case(
        study="density", flow=flow, dim=2, dataset="made_up", batch=8,
        updates=0 if flow in BASELINES else 100,
        seeds=Seeds.of(seed), **case,
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


def test_no_data_set_is_loaded_for_a_table(tmp_path):
    """The name of the set is nobody's, and all that is said of it is in the records."""
    record(tmp_path, "maf", -1.0)
    table = tables(tmp_path)["density-made_up"]
    assert table.title == "made_up (2-D, raw units)"
    assert table.note.startswith("Made up.")


@pytest.mark.parametrize("shared", [True, False])
def test_bold_goes_by_the_paired_difference(tmp_path, shared):
    """A lead of 0.05 under a spread of 3: told where the rows are hard for both alike."""
    noise = 3 * np.random.default_rng(0).standard_normal((2, ROWS))
    noise -= noise.mean(1, keepdims=True)
    own = 0.01 * np.random.default_rng(1).standard_normal(ROWS)
    record(tmp_path, "maf", -1.0, noise=noise[0])
    record(tmp_path, "iaf", -1.05, noise=(noise[0] if shared else noise[1]) + own)
    views = tables(tmp_path)
    assert bold(views["density-made_up"]) == (["maf"] if shared else [])
    assert bold(views["density"]) == (["maf"] if shared else [])
    behind = views["density-made_up"].frame.set_index("model").loc["iaf"]
    assert behind["behind"] == pytest.approx(0.05, abs=0.01)
    assert (behind["behind_se"] < 0.01) == shared


def test_dependent_rows_are_clustered_as_the_records_say(tmp_path):
    noise = np.repeat([1.0, -1.0] * 4, ROWS // 8)
    groups = {"test_groups": np.repeat(np.arange(8), ROWS // 8)}
    record(tmp_path, "maf", -1.0, curve=groups)
    record(tmp_path, "iaf", -1.1, noise=noise, curve=groups)
    frame = load(tmp_path).set_index("flow", drop=False)
    _, error = paired.lead(frame.loc[["maf"]], frame.loc[["iaf"]])
    assert error == pytest.approx(1 / 7**0.5, rel=1e-3)


def test_several_seeds_are_paired_by_seed_and_the_test_set_has_its_own_error(tmp_path):
    rng = np.random.default_rng(0)
    for seed, luck in enumerate((0.0, 0.5, 1.0)):
        noise = rng.standard_normal(ROWS)
        record(tmp_path, "maf", -1.0 + luck, seed=seed, noise=noise)
        record(tmp_path, "iaf", -1.1 + luck - 0.01 * seed, seed=seed, noise=noise)
    record(tmp_path, "gaussian", -2.0)
    table = tables(tmp_path)["density-made_up"]
    rows = table.frame.set_index("model")
    assert bold(table) == ["maf"]
    assert rows.loc["maf", density.OVER_SEEDS] == pytest.approx(0.5 / 3**0.5, rel=0.2)
    assert rows.loc["maf", density.OVER_ROWS] == pytest.approx(1 / ROWS**0.5 / 3**0.5, rel=0.2)
    assert rows.loc["iaf", "behind_se"] == pytest.approx(0.01 / 3**0.5, rel=0.01)
    assert density.OVER_ROWS in table.shown


def test_seeds_that_agree_do_not_hide_what_the_test_rows_leave_open(tmp_path):
    one, other = np.random.default_rng(0).standard_normal((2, ROWS))
    for seed in range(3):
        record(tmp_path, "maf", -1.0, seed=seed, noise=one - one.mean())
        record(tmp_path, "iaf", -1.1, seed=seed, noise=other - other.mean())
    frame = load(tmp_path).set_index("flow", drop=False)
    ahead, error = paired.lead(frame.loc[["maf"]], frame.loc[["iaf"]])
    assert (ahead, error) == pytest.approx((0.1, (2 / ROWS) ** 0.5), rel=0.1)
    ahead, error = paired.lead(frame.loc[["maf"]], frame.loc[["iaf"]].head(1))
    assert np.isnan(error)  # a flow of one seed: what others would have given is not known


def test_leads_are_the_same_to_claims_and_tables(tmp_path):
    noise = np.random.default_rng(0).standard_normal(ROWS)
    record(tmp_path, "maf", -1.0, noise=noise)
    record(tmp_path, "gaussian", -1.2, noise=0.5 * noise)
    frame = load(tmp_path)
    (contest,) = contests(frame, frame["flow"] == "maf", frame["flow"] == "gaussian")
    row = tables(tmp_path)["density-made_up"].frame.set_index("model").loc["gaussian"]
    assert (contest.lead, contest.error) == pytest.approx((row["behind"], row["behind_se"]))


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
    lls = curve([1, 3, 2, 9], [0, 1, 2, 3], [0, 1, 1, 9])
    assert costs.best_within(lls, "validation_flops", 2.5) == (3.0, 0.1, 20)


def test_a_flow_that_is_not_validated_within_the_budget_is_said_to_be_untrained(tmp_path):
    for seed in range(3):
        record(tmp_path, "maf", -1.0, seed=seed, curve=curve([-9, -2], [0, 10], [0, 1]))
        record(tmp_path, "cnf", -1.0, seed=seed, curve=curve([-8, -1], [0, 99], [0, 1]))
        record(tmp_path, "ffjord", -1.0, seed=seed, curve=curve([-8, -1], [0, 0], [0, 1]))
    table = tables(tmp_path)["density-budget-made_up"]
    rows = table.frame.set_index("model")["ll_at_flops"]
    assert rows.to_dict() == {"maf": -2, "cnf": costs.UNTRAINED, "ffjord": -1}
    assert bold(table) == ["ffjord"]


@pytest.mark.parametrize(("second", "matched"), [(1040, True), (1060, False)])
def test_a_table_says_what_its_flows_are_matched_in(tmp_path, second, matched):
    budget = {"settings": {"parameters": 1000}, "options": {"hidden": 8}}
    record(tmp_path, "maf", -1.0, metrics={"parameters": 1000, "train_flops": 1e6}, **budget)
    record(tmp_path, "iaf", -1.1, metrics={"parameters": second, "train_flops": 5e6}, **budget)
    note = tables(tmp_path)["density-cost-made_up"].note
    assert ("matched in parameters" in note) == matched
    assert ("by their width" in note) == matched
    assert "they differ in" in note
    assert "training FLOPs (1.0e6 to 5.0e6)" in note


def test_what_has_not_settled_and_what_has_no_estimate_is_said(tmp_path):
    metrics = {"ll_shift": 1e-3, "ll_shift_row": 0.1, "test_tolerance": 1e-9, "solver_gap": 0.0}
    notes = {"not_settled": "still moves", "no_hutchinson": "TypeError: no product"}
    record(tmp_path, "cnf", -1.0, metrics=metrics, notes=notes)
    table = tables(tmp_path)["density-exact-made_up"]
    assert "cnf: has not settled (still moves)." in table.note
    assert "cnf: no estimate (TypeError: no product)." in table.note
    assert pd.isna(table.frame.get("hutchinson_ll", pd.Series([np.nan]))).all()
