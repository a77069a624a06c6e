"""Kinds of models against each other on each data set: the best of either, and which leads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.analysis import levels
from benchmarks.analysis.paired import ERRORS, lead
from benchmarks.core.series import is_baseline, series
from benchmarks.core.store import arrays

UPDATES = 100  # updates from which on a flow counts as trained


@dataclass(frozen=True)
class Contest:
    """The best series of two kinds on a data set, and the lead of the first, nats."""

    data: str
    one: pd.DataFrame  # the cases of the best series, one a seed
    other: pd.DataFrame
    lead: float
    error: float

    @property
    def leads(self) -> bool:
        """Whether the first is ahead by more than `ERRORS` standard errors."""
        return self.lead > ERRORS * self.error


def kinds(done: pd.DataFrame) -> pd.Series:
    """Kind of each case: baseline, continuous (its density takes evaluations), or discrete."""
    counts = [name for name in ("test_nfe", "solve_nfe") if name in done]
    solved = done[counts].notna().any(axis=1)
    kind = solved.map({True: "continuous", False: "discrete"})
    return kind.where(~is_baseline(done), "baseline")


def trained(done: pd.DataFrame) -> pd.DataFrame:
    """The baselines, and the cases of `UPDATES` or more: fewer do not show what a flow can do."""
    return done[(done["updates"] >= UPDATES) | is_baseline(done)]


def contests(done: pd.DataFrame, one: pd.Series, other: pd.Series) -> list[Contest]:
    """On each data set the best series of the cases ``one`` against that of the cases ``other``.

    ``one`` and ``other`` are booleans by row. The error is that of `paired.lead`.
    """
    pairs = []
    for name, group in done[done["arrays"].notna()].groupby("dataset"):
        group = group.assign(series=series(group))
        sides = [group[mask.reindex(group.index)] for mask in (one, other)]
        if any(side.empty for side in sides):
            continue
        first, second = (_best(side) for side in sides)
        pairs.append(Contest(str(name), first, second, *lead(first, second)))
    return pairs


def _best(side: pd.DataFrame) -> pd.DataFrame:
    """The cases of the series with the highest mean test log-likelihood."""
    means = side.groupby("series")["test_ll"].mean()
    return side[side["series"] == means.idxmax()]


def seconds_to(side: pd.DataFrame, level: float) -> float:
    """Least mean time of training, s, in which a series comes to a validation likelihood."""
    means = []
    for _, seeds in side.groupby("series"):
        curves = (arrays(row) for _, row in seeds.iterrows())
        times = [levels.cost_at(curve, "validation_seconds", level) for curve in curves]
        means.append(float(np.mean(times)))
    return min(means)


def reached(side: pd.DataFrame) -> float:
    """Highest validation likelihood, nats, that every seed of some series comes to."""
    best = [levels.best(arrays(row)) for _, row in side.iterrows()]
    return float(pd.Series(best, side.index).groupby(side["series"]).min().max())
