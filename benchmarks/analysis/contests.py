"""Kinds of models against each other on each data set: the best of either, and who leads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.analysis import levels
from benchmarks.analysis.paired import ERRORS, lead
from benchmarks.core.series import fitted, series
from benchmarks.core.store import arrays

UPDATES = 100  # from which on a flow counts as trained


@dataclass(frozen=True)
class Contest:
    """The best of two kinds on a data set, and by how many nats the first leads."""

    data: str
    one: pd.DataFrame  # the cases of the best series, one a seed
    other: pd.DataFrame
    lead: float
    error: float

    @property
    def leads(self) -> bool:
        """Whether the first is ahead by more than chance has it."""
        return self.lead > ERRORS * self.error

    def __str__(self) -> str:
        names = [str(side["series"].iloc[0]) for side in (self.one, self.other)]
        sign = "+" if self.lead > 0 else "−"
        amount = f"{sign}{abs(self.lead):.3f} ± {self.error:.3f}"
        return f"{amount} on {self.data} ({names[0]} and {names[1]})"


def kinds(done: pd.DataFrame) -> pd.Series:
    """Of each case: baseline, continuous (whose density takes evaluations), or discrete."""
    counts = [name for name in ("test_nfe", "solve_nfe") if name in done]
    solved = done[counts].notna().any(axis=1)
    found = solved.map({True: "continuous", False: "discrete"})
    return found.where(~fitted(done), "baseline")


def trained(done: pd.DataFrame) -> pd.DataFrame:
    """The cases of `UPDATES` or more, and baselines: fewer say nothing of what a flow can do."""
    return done[(done["updates"] >= UPDATES) | fitted(done)]


def contests(done: pd.DataFrame, one: pd.Series, other: pd.Series) -> list[Contest]:
    """On each data set the best series of the cases of ``one`` against that of ``other``.

    The error is that of `paired.lead`.
    """
    found = []
    for name, group in done[done["arrays"].notna()].groupby("dataset"):
        group = group.assign(series=series(group))
        sides = [group[mask.reindex(group.index)] for mask in (one, other)]
        if any(side.empty for side in sides):
            continue
        best = [_best(side) for side in sides]
        ahead, error = lead(*best)
        found.append(Contest(str(name), best[0], best[1], ahead, error))
    return found


def _best(side: pd.DataFrame) -> pd.DataFrame:
    """The cases of the series with the highest mean test log-likelihood."""
    means = side.groupby("series")["test_ll"].mean()
    return side[side["series"] == means.idxmax()]


def seconds_to(side: pd.DataFrame, level: float) -> float:
    """The least mean training time in which a series comes to a validation likelihood."""
    found = []
    for _, seeds in side.groupby("series"):
        times = [levels.at(arrays(row), "validation_seconds", level) for _, row in seeds.iterrows()]
        found.append(float(np.mean(times)))
    return min(found)


def reached(side: pd.DataFrame) -> float:
    """The highest validation likelihood that every seed of some series comes to."""
    best = [levels.reached(arrays(row)) for _, row in side.iterrows()]
    return float(pd.Series(best, side.index).groupby(side["series"]).min().max())
