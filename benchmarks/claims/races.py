"""Seconds of trained flows against each other: of densities, of samples, of training to a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.contests import at_equal_budget, kinds, reached, seconds_to
from benchmarks.claims.examples import densities
from benchmarks.claims.scored import scored
from benchmarks.core.naming import named

CALLS = {"density": "per_1000_seconds", "sample": "sampling_seconds"}
TRAINING = "training to the likelihood that both reach"


def timed_example(seconds: dict[str, float]) -> pd.DataFrame:
    """Made-up densities of flows, each with these seconds of all that is timed."""

    def of(row: Any) -> float:
        return seconds[row["flow"]]

    def curve(row: Any) -> dict[str, np.ndarray]:
        return {
            "validation_ll": np.array([-2.0, -1.0]),
            "validation_seconds": np.array([0.0, of(row)]),
        }

    return densities(
        dict.fromkeys(seconds, 0.0),
        per_1000_seconds=of,
        sample_rate=lambda row: 1 / of(row),
        train_seconds=of,
        arrays=curve,
    )


def timed(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trained flows whose densities and samples were timed; races of time_to_nll; with series."""
    rows = scored(frame, "per_1000_seconds", "sample_rate")
    rows = rows[rows["arrays"].notna() & (rows["updates"] > 0)]
    columns = {"sampling_seconds": 1 / rows["sample_rate"], "kind": kinds(rows)}
    rows = pd.concat([rows, pd.DataFrame(columns)], axis=1)
    own = frame[(frame["study"] == "time_to_nll") & (frame["status"] == "done")]
    own = pd.concat([own, kinds(own).rename("kind")], axis=1)
    return _named(rows), _named(own)


def either(
    rows: pd.DataFrame, races: pd.DataFrame, column: str, names: Sequence[str]
) -> tuple[list[pd.DataFrame], list[pd.DataFrame]] | None:
    """Both sides on a data set, by values of a column, and the trainings that race.

    Calls are those of the largest common budget. The trainings are the races where both sides have
    some, else those of the timed flows at any budget. None where a side has no timed flow.
    """
    timed_flows, racing = ([part[part[column] == n] for n in names] for part in (rows, races))
    sides = at_equal_budget(*timed_flows)
    if any(side.empty for side in sides):
        return None
    return sides, timed_flows if any(side.empty for side in racing) else racing


def ratios(sides: Sequence[pd.DataFrame], racing: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Seconds of the fastest series of one side over those of the other, without what is not known.

    ``sides`` are the timed flows of both, ``racing`` their trainings; all are of one data set.
    """
    costs = [side.groupby("series")[[*CALLS.values()]].mean().min() for side in sides]
    values = {call: float(costs[0][c] / costs[1][c]) for call, c in CALLS.items()}
    level = min(map(reached, racing))
    first, second = (seconds_to(side, level) for side in racing)
    started = min(first, second) > 0  # or one begins at the level, and there is no race
    values[TRAINING] = first / second if started else np.nan
    return {call: value for call, value in values.items() if value == value}


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with their series, which are named on each data set by itself."""
    parts = [named(group) for _, group in rows.groupby("dataset")]
    return pd.concat(parts) if parts else rows.assign(series=[])
