"""Time to a likelihood: levels and crossings of made-up curves, the table, the claim's race."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.studies.time_to_nll import study as time_to_nll
from benchmarks.studies.time_to_nll.figures import figures
from benchmarks.studies.time_to_nll.tables import crossings, tables

from benchmarks import datasets
from benchmarks.analysis import levels
from benchmarks.claims import registry as claims
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.frame import load
from benchmarks.core.record import Record
from benchmarks.core.study import registry
from measuring import cases_of
from records import record_of

STUDY = registry["time_to_nll"]
GAUSSIAN = -4.0  # nats


def curve(*ll: float, step: float = 1.0) -> dict[str, np.ndarray]:
    """A validation every ten updates and every ``step`` seconds, at a FLOP an update."""
    place = np.arange(len(ll))
    return {
        "validation_ll": np.array(ll),
        "validated": 10 * place,
        "validation_seconds": step * place,
        "validation_flops": 10.0 * place,
    }


def test_a_curve_crosses_a_level_where_it_first_comes_to_it() -> None:
    """Whatever it does afterwards; from equality on; and never where it does not."""
    history = curve(-math.inf, -3.0, -2.0, -2.5, -1.0, step=0.5)
    expected = [(-5.0, 1), (-3.0, 1), (-2.99, 2), (-2.0, 2), (-1.9, 4), (-1.0, 4), (-0.9, None)]
    for level, place in expected:
        assert levels.crossing(history, level) == place
        seconds = math.inf if place is None else 0.5 * place
        assert levels.cost_at(history, "validation_seconds", level) == seconds
    assert levels.cost_at(history, "validated", -2.0) == 20
    assert levels.best(history) == -1.0


def test_levels_lie_between_the_gaussian_and_the_best() -> None:
    """Of the highest median, which no lucky seed sets; and the one that all come to."""
    between = levels.between(-4.0, [[-2.0, -2.0, -1.0], [-3.0, -3.5, -2.5]])
    assert between.shares == pytest.approx({s: -4 + 2 * s for s in levels.SHARES})
    assert between.common == -3.5
    assert levels.between(-4.0, [[-5.0], [-4.0]]) == ({}, -5.0)


# ---- the table ----------------------------------------------------------------------------------


def record(flow: str, seed: int = 0, study: str = "time_to_nll", **metrics: float) -> Record:
    case = Case(
        study=study, flow=flow, dim=2, dataset="8gaussians", batch=1, updates=500,
        seeds={"init": seed},  # type: ignore[arg-type]  # pydantic's to make
    )  # fmt: skip
    return record_of(case, metrics)


OWN = {"gaussian_ll": GAUSSIAN, "reference_seconds": 0.5, "train_seconds": 4.0}


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """A flow of three seeds that comes to -2, one of two that stays at -3, one that failed."""
    quick = [
        curve(-5, -3, -2, -2),
        curve(-5, -3, -2, -2, step=2.0),
        curve(-5, -3, -3, -2, step=1.5),
    ]
    for seed, history in enumerate(quick):
        store.write(tmp_path, record("cnf", seed, solve_nfe=16, **OWN), history)
    for seed in range(2):
        store.write(tmp_path, record("realnvp", seed, **OWN), curve(-5, -3.5, -3))
    failed = record("glow").model_copy(update={"status": "failed", "metrics": {}})
    store.write(tmp_path, failed)
    return load(tmp_path)


def test_costs_are_medians_and_infinite_if_not_reached(frame: pd.DataFrame) -> None:
    (table,) = tables(frame)
    costs = crossings(frame).set_index(["share", "flow"])
    half = costs.loc[(0.5, "cnf")]
    assert half["nll"] == pytest.approx(3.0)
    assert (half["seconds"], half["seconds_range"]) == (1.5, (1, 2))
    assert (half["updates"], half["flops"], half["reference_workloads"]) == (10, 10, 3)
    assert half["seeds_there"] == half["seeds"] == 3
    assert costs.loc[(0.5, "realnvp"), "seconds"] == 2
    most = costs.loc[(0.99, "realnvp")]
    assert (most["seconds"], most["train_seconds"]) == (math.inf, 4)
    assert (most["seeds_there"], most["seeds"]) == (0, 2)
    assert costs.loc[(0.99, "cnf"), "seconds"] == 4
    common = crossings(frame).query("share != share").set_index("flow")
    assert common.loc["realnvp", "nll"] == 3
    assert table.frame["flow"].tolist()[:3] == ["cnf", "realnvp", "glow"]
    assert set(table.frame.set_index("flow").loc["glow", "seconds"]) == {"failed"}
    assert {key for keys in table.rows_from for key in keys} == set(frame["key"])
    only_failed = tables(frame[frame["status"] == "failed"].reset_index(drop=True))[0]
    assert only_failed.frame["seconds"].tolist() == ["failed"]


def test_a_seed_that_does_not_get_there_is_in_the_range(tmp_path: Path) -> None:
    for seed, history in enumerate([curve(-5, -2), curve(-5, -2), curve(-5, -3)]):
        store.write(tmp_path, record("cnf", seed, **OWN), history)
    row = crossings(load(tmp_path)).set_index("share").loc[0.99]
    assert (row["seeds_there"], row["seconds"], row["seconds_range"]) == (2, 1, (1, math.inf))


def test_the_figure_has_a_line_a_seed(frame: pd.DataFrame) -> None:
    (figure,) = figures(frame)
    panels = figure.draw().axes
    for panel in panels:
        learned = [line for line in panel.lines if line.get_marker() != "None"]
        assert len(learned) == 5
        assert all(np.all(np.diff(line.get_ydata()) <= 0) for line in learned)
        assert all(np.min(line.get_xdata()) > 0 for line in learned)
    assert not figures(frame[frame["status"] == "failed"])
    assert STUDY.tables(pd.DataFrame()) == STUDY.figures(pd.DataFrame()) == []


# ---- the study ----------------------------------------------------------------------------------


def test_the_study_trains_through_the_one_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a constant rate and a validation every so many updates, for as many seconds each."""
    monkeypatch.setattr(time_to_nll, "BESIDE", 0.001)
    options = {
        "flows": ["realnvp", {"flow": "cnf", "updates": 2, "training": {"schedule": "cosine"}}],
        "datasets": ["8gaussians"],
        "sizes": {"hidden": 8, "layers": 1},
        "updates": 4,
        "seconds": 600,
        "training": {"validate_every": 2, "validation_rows": 300, "preprocessing": "whiten"},
    }
    cases = cases_of("time_to_nll", options, seeds=(0, 1))
    kinds = [case.settings["training"] for case in cases[::2]]
    assert [kind["schedule"] for kind in kinds] == ["constant", "cosine"]
    assert {kind["time_limit"] for kind in kinds} == {600}
    assert {kind["preprocessing"] for kind in kinds} == {"whiten"}
    assert len({STUDY.block(case) for case in cases}) == len(cases) == 4
    results = [result for _, result in STUDY.measure(cases[::2])]
    assert [result.arrays["validated"].tolist() for result in results] == [[0, 2, 4], [0, 2]]
    assert ["solve_nfe" in result.metrics for result in results] == [False, True]
    data = datasets.load("8gaussians")
    mean, covariance = data.train.mean(0), data.train.T.cov()
    gaussian = torch.distributions.MultivariateNormal(mean, covariance)
    for result in results:
        expected = gaussian.log_prob(data.val[:300]).mean().item()
        assert result.metrics["gaussian_ll"] == pytest.approx(expected, abs=1e-3)
        assert np.all(np.diff(result.arrays["validation_flops"]) > 0)


# ---- the claim ----------------------------------------------------------------------------------


def test_the_race_is_that_of_time_to_nll_where_there_is_one(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    """By the curves of density the discrete flow is first, by those of time_to_nll the other."""
    folder, scores = tmp_path / "density", {"test_ll": -2.0, "sample_rate": 1.0}
    scores |= {"per_1000_seconds": 1.0, "train_seconds": 1.0, "train_updates": 2.0}
    store.write(folder, record("cnf", study="density", test_nfe=16, **scores), curve(-5, -5, -3))
    store.write(folder, record("realnvp", study="density", **scores), curve(-5, -3, -3))
    density, judge = load(folder), claims["continuous-faster"].verdict
    alone = judge(density)
    assert "first on none" in alone.sentence
    both = judge(pd.concat([density, frame], ignore_index=True))
    assert "first on 8gaussians." in both.sentence
    assert set(both.records) == {*density["key"], *frame.loc[frame["status"] == "done", "key"]}
    one_kind = frame[frame["flow"] == "cnf"]
    assert judge(pd.concat([density, one_kind], ignore_index=True)).sentence == alone.sentence
