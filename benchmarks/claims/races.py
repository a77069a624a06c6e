"""Seconds of trained flows against each other: of densities, of samples, of training to a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.contests import kinds, reached, seconds_to, trained
from benchmarks.claims import done
from benchmarks.claims.examples import densities
from benchmarks.core.series import named

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
    """Trained flows whose densities and samples were timed, and trainings to race, with series.

    The latter are those of the study time_to_nll on its data sets, else of the study density.
    """
    rows = trained(done(frame, "density", "test_ll", "per_1000_seconds", "sample_rate"))
    rows = rows[rows["arrays"].notna() & (rows["updates"] > 0)]
    columns = {"sampling_seconds": 1 / rows["sample_rate"], "kind": kinds(rows)}
    rows = pd.concat([rows, pd.DataFrame(columns)], axis=1)
    own = frame[(frame["study"] == "time_to_nll") & (frame["status"] == "done")]
    own = pd.concat([own, kinds(own).rename("kind")], axis=1)
    racing = pd.concat([own, rows[~rows["dataset"].isin(own["dataset"])]])
    return _named(rows), _named(racing)


def ratios(sides: Sequence[pd.DataFrame], racing: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Seconds of the fastest series of one side over those of the other, without what is not known.

    ``sides`` are the timed flows of both, ``racing`` their trainings; all are of one data set.
    """
    costs = [side.groupby("series")[[*CALLS.values()]].mean().min() for side in sides]
    values = {call: float(costs[0][c] / costs[1][c]) for call, c in CALLS.items()}
    if not any(side.empty for side in racing):
        level = min(map(reached, racing))
        first, second = (seconds_to(side, level) for side in racing)
        started = min(first, second) > 0  # or one begins at the level, and there is no race
        values[TRAINING] = first / second if started else np.nan
    return {call: value for call, value in values.items() if value == value}


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with their series, which are named on each data set by itself."""
    parts = [named(group) for _, group in rows.groupby("dataset")]
    return pd.concat(parts) if parts else rows.assign(series=[])
