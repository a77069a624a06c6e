"""The sizes that a cost depends on: their names, and the rows in which one of them varies."""

from collections.abc import Iterable

import pandas as pd

from benchmarks.core.naming import HOW, RULES, series

AXES = {"batch": "N", "option.hidden": "H", "option.depth": "ℓ", "option.layers": "L"}
FEWEST = 4  # sizes that the growth of a cost takes


def names(frame: pd.DataFrame, without: Iterable[str] = ()) -> list[str]:
    """The series of each row by `series`, as if the columns ``without`` were not there."""
    return series(frame.drop(columns=[c for c in without if c in frame]))


def flows(frame: pd.DataFrame) -> list[str]:
    """The series of each row but for its sizes, and for what decides its width."""
    return names(frame, (*AXES, *RULES))


def computed(done: pd.DataFrame) -> pd.DataFrame:
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
    scan_rows: pd.DataFrame = done[along].sort_values("dim", kind="stable")
    return scan_rows.assign(series=names(scan_rows))


def lines(done: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """For each varied size of `AXES` the rows along it by series: all else is equal in them."""
    done = computed(done)
    every = {axis: _along(done, axis) for axis in AXES if axis in done and len(done)}
    return {axis: along for axis, along in every.items() if along}


def _along(done: pd.DataFrame, axis: str) -> dict[str, pd.DataFrame]:
    ruled = [rule for rule in RULES if rule in done and axis == "option.hidden"]
    done = done[done[ruled].isna().all(axis=1)].drop(columns=ruled)  # no widths that follow D
    settings = [c for c in done if str(c).startswith(("option.", "setting."))]
    equal = [c for c in ("flow", "dim", "batch", *settings) if c not in (axis, *HOW)]
    alike = pd.Series(map(repr, done[equal].to_dict("records")), done.index, dtype=object)
    grid = done[done.groupby(alike)[axis].transform("nunique") >= FEWEST]
    labels = names(grid.assign(**{"option.D": grid["dim"]}), [axis])
    by_name = grid.groupby(pd.Series(labels, grid.index, dtype=object))
    return {str(name): group.sort_values(axis) for name, group in by_name}
