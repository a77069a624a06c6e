"""The measured power of `flowgauge ab`: what docs/ab.md says follows from its committed runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.analysis.criteria import LEVEL
from benchmarks.gate.ab import DEFAULT, FACTOR

DOCS = Path(__file__).parent.parent / "docs"
RUNS = pd.read_csv(DOCS / "data" / "ab_power.csv", keep_default_na=False)
PAGE = " ".join((DOCS / "ab.md").read_text().split())


def alarms(factor: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The benchmarks that were made slower and are called so; those called moved that were not."""
    beyond = (RUNS["ratio"] >= factor) | (RUNS["ratio"] <= 1 / factor)
    moved = RUNS[(RUNS["p"] < LEVEL) & beyond]
    own = moved["benchmark"] == moved["slowed"]
    return moved[own & (moved["ratio"] > 1)], moved[~own]


def test_the_page_has_the_figures_of_its_runs():
    called, other = alarms(FACTOR)
    for name in (*DEFAULT, ""):
        runs = RUNS[RUNS["slowed"] == name]
        ratios = runs.loc[runs["benchmark"] == name, "ratio"] if name else runs["ratio"]
        spread = f"{ratios.median():.3f} ({ratios.min():.3f} to {ratios.max():.3f})"
        detected = f"{(called['slowed'] == name).sum()}" if name else ""
        wrong = other.loc[other["slowed"] == name, "run"].nunique()
        cells = (name or "none", runs["run"].nunique(), detected, spread, wrong)
        assert " ".join(f"| {' | '.join(map(str, cells))} |".split()) in PAGE
    for factor in (1.02, 1.03, 1.05, 1.07):
        called, other = alarms(factor)
        wrong = other.loc[other["slowed"] == "", "run"].nunique()
        assert f"| {factor:g} | {len(called)} | {wrong} |" in PAGE
