"""The measured power of `flowgauge ab`: what docs/ab.md says follows from its committed runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.gate.ab import DEFAULT, FACTOR, LEVEL

DOCS = Path(__file__).parent.parent / "docs"
RUNS = pd.read_csv(DOCS / "data" / "ab_power.csv", keep_default_na=False)
PAGE = " ".join((DOCS / "ab.md").read_text().split())


def alarms(factor: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The benchmarks that were made slower and are called so; those called moved that were not."""
    beyond = (RUNS["ratio"] >= factor) | (RUNS["ratio"] <= 1 / factor)
    moved = RUNS[(RUNS["p"] < LEVEL) & beyond]
    own = moved["benchmark"] == moved["slowed"]
    return moved[own & (moved["ratio"] > 1)], moved[~own]


def test_the_committed_runs_are_complete():
    assert RUNS.groupby("run").size().eq(len(DEFAULT)).all()
    slowed = RUNS.drop_duplicates("run")["slowed"]
    assert len(slowed) == 80
    assert (slowed != "").sum() == 40
    assert set(RUNS["benchmark"]) == set(DEFAULT) == set(slowed) - {""}
    called, other = alarms(FACTOR)
    assert (called["verdict"] == "slower").all()
    assert set(RUNS.loc[RUNS["verdict"] != "same"].index) == {*called.index, *other.index}


def test_the_page_has_the_figures_of_each_benchmark():
    called, other = alarms(FACTOR)
    for name in (*DEFAULT, ""):
        runs = RUNS[RUNS["slowed"] == name]
        ratios = runs.loc[runs["benchmark"] == name, "ratio"] if name else runs["ratio"]
        spread = f"{ratios.median():.3f} ({ratios.min():.3f} to {ratios.max():.3f})"
        detected = f"{(called['slowed'] == name).sum()}" if name else ""
        wrong = other.loc[other["slowed"] == name, "run"].nunique()
        cells = (name or "none", runs["run"].nunique(), detected, spread, wrong)
        assert " ".join(f"| {' | '.join(map(str, cells))} |".split()) in PAGE


def test_the_page_has_the_figures_of_each_factor():
    for factor in (1.02, 1.03, 1.05, 1.07):
        called, other = alarms(factor)
        wrong = other.loc[other["slowed"] == "", "run"].nunique()
        assert f"| {factor:g} | {len(called)} | {wrong} |" in PAGE


def test_the_page_says_how_far_equal_processes_differ():
    equal = RUNS[RUNS["slowed"] == ""]
    farthest = np.abs(equal["ratio"] - 1).max()
    outside = ((equal["low"] > 1) | (equal["high"] < 1)).sum()
    for figure in (len(equal), f"{equal['ratio'].std():.3f}", f"{farthest:.3f}", outside):
        assert f" {figure} " in PAGE
    assert f"load average between {RUNS['load'].min():.1f} and {RUNS['load'].max():.1f}" in PAGE
