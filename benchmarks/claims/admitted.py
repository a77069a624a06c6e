"""Which records a claim may be judged from: none of undertrained flows, none of a user's files."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis.improvement import undertrained
from benchmarks.core.series import BUDGET, LABEL, STAGE, named
from benchmarks.datasets import own

NAMED = 4  # models of a data set that a sentence names


def of_lecture(frame: pd.DataFrame) -> pd.DataFrame:
    """The records that the lecture speaks of: those on data sets that are no files of a user."""
    names = frame.get("dataset", pd.Series(None, frame.index))
    files = names.map(lambda name: isinstance(name, str) and own.is_file(name)).astype(bool)
    return frame[~files].reset_index(drop=True)


def of_trained(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The records of models that had stopped improving, and a sentence on those left out, or "".

    A model that a search has trained is left out at every budget if its longest training was still
    improving, and at none if that was not. A data set on which one of those left out is ahead of
    all flows that stay is left out too: without its best flow it says who is ahead of the rest.
    """
    late = undertrained(frame)
    left = late
    if STAGE in frame:
        model = frame["dataset"] + "/" + frame[LABEL]  # NaN of what no search has trained
        budget = frame[BUDGET].astype(float).where(frame["status"] == "done")
        late &= model.isna() | (budget == budget.groupby(model).transform("max"))
        left = late | model.isin(model[late].dropna())
    if not late.any():
        return frame, ""
    names = [
        f"{_some(named(group)['series'])} on {data}"
        for data, group in frame[late].groupby("dataset", sort=False)
    ]
    sentence = (
        f"Left out as undertrained, since a continuation was still improving: {'; '.join(names)}."
    )
    if led := _led(frame, left):
        left |= frame["dataset"].isin(led)
        sentence += f" Not judged, since its best flow is among them: {', '.join(led)}."
    return frame[~left].reset_index(drop=True), sentence


def _led(frame: pd.DataFrame, left: pd.Series) -> list[str]:
    """The data sets on which a model of the rows ``left`` out is ahead of all flows that stay."""
    if "test_ll" not in frame:
        return []
    led, rows = [], frame[(frame["updates"] > 0) & frame["test_ll"].notna()]
    for data, group in rows.groupby("dataset", sort=False):
        means = group["test_ll"].groupby(named(group)["series"]).transform("mean")
        gone = left[group.index]
        if not gone.all() and means[gone].max() > means[~gone].max():
            led.append(str(data))
    return led


def _some(models: pd.Series) -> str:
    """ "cnf, maf, glow and 3 more": each once, and at most `NAMED` by name."""
    names = list(dict.fromkeys(models))
    more = len(names) - NAMED
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:NAMED])} and {more} more"
