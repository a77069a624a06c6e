"""Rows of the frontier: which cases are finals, of which model, budget and configuration."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.analysis.contests import at_largest_budget, within
from benchmarks.core.series import BUDGET, is_baseline, starred


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Cases of one data set with columns ``model``, ``stage``, ``seconds`` and ``configuration``.

    ``seconds`` is the budget; a baseline is a final of no budget.
    """
    unknown = pd.Series(None, frame.index, dtype=object)
    names = ("label", "stage", "seconds", "preprocessing")
    get = {name: frame.get(f"setting.{name}", unknown) for name in names}
    after = [f" after {first}" if isinstance(first, str) else "" for first in get["preprocessing"]]
    rows = frame.assign(
        model=starred(get["label"].where(get["label"].notna(), frame["flow"] + after), frame),
        stage=get["stage"].where(~is_baseline(frame) | get["stage"].notna(), "baseline"),
        seconds=get["seconds"].astype(float),
        configuration=[_words(row) for _, row in frame.iterrows()],
    )
    return rows[rows["stage"] != "rate"]


def finals(rows: pd.DataFrame) -> pd.DataFrame:
    """The scored cases of rows that are `labelled`, and have a test likelihood."""
    scored = rows[(rows["status"] == "done") & rows["stage"].isin(["final", "baseline"])]
    known = scored if "test_ll" in scored else scored.iloc[:0].assign(test_ll=np.nan)
    return known.dropna(subset=["test_ll"])


def by_budget(scored: pd.DataFrame) -> dict[float, pd.DataFrame]:
    """The `finals` `within` each budget, the least first, and the baselines on their splits."""
    budgets = sorted(scored["seconds"].dropna().unique())
    return {budget: _with_baselines(_with_budgets(within(scored, budget))) for budget in budgets}


def _with_baselines(chosen: pd.DataFrame) -> pd.DataFrame:
    """The trained cases, and the baselines on the splits of these."""
    trained = chosen["seconds"].notna()
    return chosen[trained | chosen["data_seed"].isin(chosen.loc[trained, "data_seed"])]


def on_common_splits(scored: pd.DataFrame) -> pd.DataFrame:
    """The `finals` on the splits that all budgets have; all of them where no split is common."""
    splits = [set(own) for _, own in scored.groupby("seconds")["data_seed"]]
    common = scored[scored["data_seed"].isin(set.intersection(*splits))]
    return common if len(common) else scored


def last(rows: pd.DataFrame) -> pd.DataFrame:
    """The `finals` of each model `within` its largest budget, and the baselines."""
    return _with_budgets(at_largest_budget(finals(rows)))


def _with_budgets(scored: pd.DataFrame) -> pd.DataFrame:
    """The cases with the budgets that they stand for in ``seconds``."""
    return scored.assign(seconds=scored[BUDGET].astype(float)) if BUDGET in scored else scored


def _words(row: pd.Series) -> str:
    """A configuration in words: "lr 0.003, whiten, hidden 64, layers 8"."""
    training = row.get("setting.training")
    if not isinstance(training, dict):
        return ""
    sizes = [(n, row.get(f"option.{n}")) for n in ("hidden", "depth", "layers", "bins")]
    known = [f"{name} {value:g}" for name, value in sizes if pd.notna(value)]
    words = [f"lr {training['learning_rate']:g}", str(training["preprocessing"]), *known]
    return ", ".join(words)
