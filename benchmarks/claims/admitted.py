"""Which records a claim may be judged from: none of undertrained flows, none of a user's files."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis.improvement import undertrained
from benchmarks.core.series import named
from benchmarks.datasets import own


def of_lecture(frame: pd.DataFrame) -> pd.DataFrame:
    """The records that the lecture speaks of: those on data sets that are no files of a user."""
    names = frame.get("dataset", pd.Series(None, frame.index))
    files = names.map(lambda name: isinstance(name, str) and own.is_file(name)).astype(bool)
    return frame[~files].reset_index(drop=True)


def of_trained(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The records of models that had stopped improving, and a sentence on those left out, or ""."""
    mask = undertrained(frame)
    if not mask.any():
        return frame, ""
    names = [
        f"{model} on {data}"
        for data, group in frame[mask].groupby("dataset", sort=False)
        for model in dict.fromkeys(named(group)["series"])
    ]
    what = "Left out as undertrained, since a continuation was still improving"
    return frame[~mask].reset_index(drop=True), f"{what}: {', '.join(names)}."
