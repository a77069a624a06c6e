"""Rows of the frontier: which cases are finals, of which model, budget and configuration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.analysis.contests import at_largest_budget, within
from benchmarks.core.frame import processor
from benchmarks.core.naming import BUDGET, in_words, is_baseline, starred

SIZES = ("hidden", "depth", "layers", "bins")  # options that the words of a configuration have


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Cases of one data set with the columns of a search: ``model``, ``stage``, ``configuration``.

    ``seconds`` is the budget, on the processors ``rated_on``; a baseline is a final without one.
    """
    unknown = pd.Series(None, frame.index, dtype=object)
    names = ("label", "stage", "seconds", "preprocessing")
    get = {name: frame.get(f"setting.{name}", unknown) for name in names}
    after = [f" after {first}" if isinstance(first, str) else "" for first in get["preprocessing"]]
    rows = frame.assign(
        model=starred(get["label"].where(get["label"].notna(), frame["flow"] + after), frame),
        stage=get["stage"].where(~is_baseline(frame) | get["stage"].notna(), "baseline"),
        seconds=get["seconds"].astype(float),
        configuration="",
    )
    for _, family in rows.groupby("model"):
        options = [*SIZES, *_choices(family)]
        words = [_words(row, options) for _, row in family.iterrows()]
        rows.loc[family.index, "configuration"] = words
    rates = rows["stage"] == "rate"
    processors = sorted({processor(machine) for machine in rows.loc[rates, "machine"]} - {""})
    return rows[~rates].assign(rated_on=", ".join(processors))


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


def _choices(family: pd.DataFrame) -> list[str]:
    """Options of a family, but for sizes, of which its cases have several values."""
    columns = [
        c for c in family if str(c).startswith("option.") and family[c].astype(str).nunique() > 1
    ]
    return [name for c in columns if (name := str(c).removeprefix("option.")) not in SIZES]


def _words(row: pd.Series, names: Sequence[str]) -> str:
    """A configuration in words: "lr 0.003, whiten, hidden 64, layers 8"."""
    training = row.get("setting.training")
    if not isinstance(training, dict):
        return ""
    values = {name: row.get(f"option.{name}") for name in names}
    known = [
        f"{name} {in_words(value)}"
        for name, value in values.items()
        if value is not None and value == value
    ]
    return ", ".join([f"lr {training['learning_rate']:g}", str(training["preprocessing"]), *known])
