"""Models of one data set compared in pairs: row by row, and seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from benchmarks.analysis.stats import standard_error
from benchmarks.core.series import is_baseline
from benchmarks.core.store import arrays

ERRORS = 2.0  # standard errors that a lead has to exceed


def mean_by_row(seeds: pd.DataFrame) -> np.ndarray:
    """Log-density of each test row, nats, (rows,): the mean over these cases."""
    rows = [arrays(row)["test_log_prob"] for _, row in seeds.iterrows()]
    return np.asarray(np.mean(rows, axis=0, dtype=float))


def groups(seeds: pd.DataFrame) -> np.ndarray | None:
    """Labels of dependent test rows, (rows,), from the records of these cases; None of none."""
    return arrays(seeds.iloc[0]).get("test_groups") if len(seeds) else None


def lead(one: pd.DataFrame, other: pd.DataFrame) -> tuple[float, float]:
    """Mean test log-likelihood of the cases of ``one`` less that of ``other``, and its error, nats.

    Both are the seeds of a model on one data set. The error is that of the differences row by row,
    clustered where rows are dependent; where either model has several seeds, the error over seeds
    is added in squares. It is NaN for a model beside itself, for models that were scored on
    different rows, and where one seed of a flow stands beside several.
    """
    if one["key"].tolist() == other["key"].tolist():
        return 0.0, math.nan
    values = [mean_by_row(side) for side in (one, other)]
    if len({len(v) for v in values}) > 1:
        return float(values[0].mean() - values[1].mean()), math.nan
    differences = values[0] - values[1]
    ahead, error = float(differences.mean()), standard_error(differences, groups(one))
    if max(len(one), len(other)) > 1:
        sides = (dict(zip(s["seed"], s["test_ll"], strict=True)) for s in (one, other))
        ahead, between = over_seeds(*sides)
        if any(len(s) == 1 and not is_baseline(s).any() for s in (one, other)):
            between = math.nan
        error = math.hypot(error, between)
    return ahead, error


def over_seeds(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float]:
    """Difference of two models' means, values by seed, and its standard error over seeds.

    In pairs where the seeds are equal. A single value, as of a fitted baseline, has no error; the
    error of two values is too uncertain to use, and is NaN.
    """
    if max(len(one), len(other)) == 2:
        return float(np.mean(list(one.values())) - np.mean(list(other.values()))), math.nan
    if one.keys() == other.keys():
        differences = [one[seed] - other[seed] for seed in one]
        return float(np.mean(differences)), standard_error(differences)
    parts = [np.array(list(side.values())) for side in (one, other)]
    errors = [standard_error(part) if len(part) > 1 else 0.0 for part in parts]
    return float(parts[0].mean() - parts[1].mean()), float(np.linalg.norm(errors))


def winner(
    values: Mapping[str, float], leads: Iterable[tuple[str, tuple[float, float]]]
) -> str | None:
    """Name of the best value; None unless its lead over each other is above `ERRORS` errors."""
    best = max(values, key=lambda name: values[name], default=None)
    ahead = [lead > ERRORS * error for name, (lead, error) in leads if name != best]
    return best if ahead and all(ahead) else None
