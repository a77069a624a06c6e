"""The sizes that a cost depends on: what they are called, and where D alone is varied."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from benchmarks.core.series import RULES, series

AXES = {"batch": "N", "option.hidden": "H", "option.depth": "ℓ", "option.layers": "L"}


def names(frame: pd.DataFrame, without: Iterable[str] = ()) -> list[str]:
    """The series of each row by `series`, as if the columns ``without`` were not there."""
    return series(frame.drop(columns=[c for c in without if c in frame]))


def flows(frame: pd.DataFrame) -> list[str]:
    """The series of each row but for its sizes, and for what decides its width."""
    return names(frame, (*AXES, *RULES))


def timed(done: pd.DataFrame) -> pd.DataFrame:
    """The rows that were computed: others are counted from shapes."""
    return done[done["device"] != "meta"] if "device" in done else done


def scans(done: pd.DataFrame) -> pd.DataFrame:
    """The rows of the series along D, named: of a flow those at more than half of its most D.

    Others are points of a grid over the other sizes. Where no series has a second D, all rows.
    """
    if done.empty:
        return done.assign(series=[])
    dims = done.groupby(pd.Series(names(done), done.index))["dim"].transform("nunique")
    most = dims.groupby(pd.Series(flows(done), done.index)).transform("max")
    along = (2 * dims > most) & ((dims > 1) | (dims.max() == 1))
    kept: pd.DataFrame = done[along].sort_values("dim", kind="stable")
    return kept.assign(series=names(kept))
