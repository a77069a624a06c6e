"""Trained flows raced against each other: by densities, by samples, by training to a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.contests import at_equal_budget, efforts_to, kinds, reached
from benchmarks.claims.examples import densities
from benchmarks.claims.scored import scored
from benchmarks.core.naming import named

CALLS = {"density": "density_seconds", "sample": "sampling_seconds"}
CPU = ("per_1000_cpu_seconds", "sample_cpu_rate")  # of records now
CLOCK = ("per_1000_seconds", "sample_rate")  # of older ones
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


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """Trained flows whose densities and samples were timed, with kind and series.

    Times are CPU seconds where there are such, else the seconds of older records.
    """
    metrics = CPU if frame.reindex(columns=[*CPU]).notna().any(axis=None) else CLOCK
    rows = scored(frame, *metrics)
    rows = rows[rows["arrays"].notna() & (rows["updates"] > 0)]
    density, rate = (rows[name] for name in metrics)
    columns = {"density_seconds": density, "sampling_seconds": 1 / rate, "kind": kinds(rows)}
    rows = pd.concat([rows, pd.DataFrame(columns)], axis=1)
    parts = [named(group) for _, group in rows.groupby("dataset")]
    return pd.concat(parts) if parts else rows.assign(series=[])


def either(rows: pd.DataFrame, column: str, names: Sequence[str]) -> list[list[pd.DataFrame]]:
    """Both sides on a data set, by values of a column, and the trainings that race.

    Calls are those of the largest common budget; trainings race at any budget. Empty where a side
    has no timed flow.
    """
    racing = [rows[rows[column] == name] for name in names]
    sides = at_equal_budget(*racing)
    return [] if any(side.empty for side in sides) else [sides, racing]


def ratios(sides: Sequence[pd.DataFrame], racing: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Cost of the fastest series of one side over that of the other, without what is not known.

    ``sides`` are the timed flows of both, ``racing`` their trainings; all are of one data set.
    """
    costs = [side.groupby("series")[[*CALLS.values()]].mean().min() for side in sides]
    values = {call: float(costs[0][c] / costs[1][c]) for call, c in CALLS.items()}
    first, second = efforts_to(racing, min(map(reached, racing)))
    started = min(first, second) > 0  # or one begins at the level, and there is no race
    values[TRAINING] = first / second if started else np.nan
    return {call: value for call, value in values.items() if value == value}
