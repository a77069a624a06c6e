"""Models of one data set compared in pairs: row by row, and seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from benchmarks.analysis.stats import standard_error
from benchmarks.core.series import fitted
from benchmarks.core.store import arrays

ERRORS = 2.0  # standard errors, from which on a lead is one


def by_row(seeds: pd.DataFrame) -> np.ndarray:
    """The log-density of each test row, nats, (rows,): the mean over these cases."""
    rows = [arrays(row)["test_log_prob"] for _, row in seeds.iterrows()]
    return np.asarray(np.mean(rows, axis=0, dtype=float))


def groups(seeds: pd.DataFrame) -> np.ndarray | None:
    """Which test rows are dependent, (rows,), as the records of these cases have it."""
    return arrays(seeds.iloc[0]).get("test_groups") if len(seeds) else None


def lead(one: pd.DataFrame, other: pd.DataFrame) -> tuple[float, float]:
    """How far the mean test log-likelihood of the cases of one is above the other's, and its error.

    Both are a model's seeds on one data set. The error is over test rows, of the differences row by
    row, clustered where rows are dependent, and where either has several seeds over these too: the
    root of the sum of the squares. NaN of a model beside itself, where they were scored on
    different rows, and where a flow has one seed left to be set beside several.
    """
    if one["key"].tolist() == other["key"].tolist():
        return 0.0, math.nan
    values = [by_row(side) for side in (one, other)]
    if len({len(v) for v in values}) > 1:
        return float(values[0].mean() - values[1].mean()), math.nan
    moved = values[0] - values[1]
    ahead, error = float(moved.mean()), standard_error(moved, groups(one))
    if max(len(one), len(other)) > 1:
        sides = (dict(zip(s["seed"], s["test_ll"], strict=True)) for s in (one, other))
        ahead, between = over_seeds(*sides)
        if any(len(s) == 1 and not fitted(s).any() for s in (one, other)):
            between = math.nan
        error = math.hypot(error, between)
    return ahead, error


def over_seeds(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float]:
    """The difference of two models' means, values by seed, and its standard error over seeds.

    In pairs where the seeds are the same. One value, as a fitted baseline has, carries no error;
    two say too little of theirs, which is NaN.
    """
    if max(len(one), len(other)) == 2:
        return float(np.mean(list(one.values())) - np.mean(list(other.values()))), math.nan
    if one.keys() == other.keys():
        moved = [one[seed] - other[seed] for seed in one]
        return float(np.mean(moved)), standard_error(moved)
    parts = [np.array(list(side.values())) for side in (one, other)]
    errors = [standard_error(part) if len(part) > 1 else 0.0 for part in parts]
    return float(parts[0].mean() - parts[1].mean()), float(np.linalg.norm(errors))


def winner(
    values: Mapping[str, float], leads: Iterable[tuple[str, tuple[float, float]]]
) -> str | None:
    """The best by value, where its lead over each other one is more than `ERRORS` errors."""
    best = max(values, key=lambda name: values[name], default=None)
    told = [ahead > ERRORS * error for name, (ahead, error) in leads if name != best]
    return best if told and all(told) else None
