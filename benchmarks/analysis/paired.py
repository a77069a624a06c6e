"""Models of one data set compared in pairs, split by split and row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.criteria import LEVEL, margin
from benchmarks.analysis.inference import (
    Estimate,
    Standing,
    of_repetitions,
    of_rows,
    of_samples,
    standings,
    with_error_of,
)
from benchmarks.core.frame import arrays_by_case, holding
from benchmarks.core.naming import is_baseline

BASES = {  # what an error is over
    "splits": "random splits of one table, paired, the variance corrected for their overlap",
    "draws": "draws of the data, paired",
    "trainings": "trainings on one split, paired, and over its test rows",
    "different splits": "splits that differ between the two (Welch)",
    "rows": "the test rows alone: one seed judges nothing",
    "none": "nothing",
}
OPEN = {  # what it leaves out
    "trainings": "Another split of the data may decide otherwise.",
    "rows": "Another seed or split may decide otherwise.",
}


@dataclass(frozen=True)
class Comparison:
    """Mean log-likelihood of a model less that of another, nats, and what its error is over."""

    estimate: Estimate
    basis: str  # a name of `BASES`
    seeds: int  # the number of repetitions
    dim: int  # of the data

    @property
    def tested(self) -> Estimate:
        """The estimate, without its error where that is over the rows of one seed."""
        known = self.basis not in ("rows", "none")
        return self.estimate if known else Estimate(self.estimate.value, math.nan, math.nan)

    @property
    def about(self) -> str:
        """What the error is over, in words."""
        words = BASES[self.basis]
        return words if self.basis in ("rows", "none") else f"{self.seeds} {words}"

    @property
    def half(self) -> float:
        """Half of the width of the interval of confidence 1 - `LEVEL`."""
        return self.estimate.half(LEVEL)


def standing(comparisons: Mapping[str, Comparison], level: float = LEVEL) -> dict[str, Standing]:
    """How the first of each comparison stands, tested together by `inference.standings`."""
    tested = {name: (c.tested, margin(c.dim)) for name, c in comparisons.items()}
    return standings(tested, level)


def leader(comparisons: Mapping[str, Comparison]) -> bool:
    """Whether a model that is compared with all others is ahead of each of them."""
    return bool(comparisons) and set(standing(comparisons).values()) == {"ahead"}


def compare(one: pd.DataFrame, other: pd.DataFrame, metric: str = "test_ll") -> Comparison:
    """Compare two models by their cases on one data set, a row a seed.

    Cases are paired by seed and split; a fitted baseline stands beside every training on its
    split. Where each seed has a random split of one table, the variance is corrected for their
    overlap; where each has a draw of its own, there is none. Where all share their test rows, the
    error over these, clustered, is added in squares to that over trainings. Without pairs the two
    are compared as independent samples.
    """
    dim = int(one["dim"].iloc[0])
    if one["key"].tolist() == other["key"].tolist():
        return Comparison(Estimate(0.0, math.nan, math.nan), "none", len(one), dim)
    pairs = _pairs(one, other)
    if not len(pairs):
        sides = [side[metric].to_numpy(dtype=float) for side in (one, other)]
        count = min(map(len, sides))
        return Comparison(of_samples(*sides), "different splits", count, dim)
    firsts, seconds = one.iloc[pairs[:, 0]], other.iloc[pairs[:, 1]]
    differences = firsts[metric].to_numpy(dtype=float) - seconds[metric].to_numpy(dtype=float)
    shares = _shares_rows(firsts)
    stored = _has_rows(one) and _has_rows(other)
    rows = _by_row(firsts, seconds) if metric == "test_ll" and shares and stored else None
    if len(pairs) == 1:
        if rows is None:
            rows = Estimate(float(differences[0]), math.nan, math.nan)
        return Comparison(rows, "rows", 1, dim)
    estimate = over_seeds(firsts, differences)
    if rows is not None:
        estimate = with_error_of(estimate, rows)
    basis = "trainings" if shares else "splits" if _ratio(firsts) else "draws"
    return Comparison(estimate, basis, len(pairs), dim)


def over_seeds(cases: pd.DataFrame, values: np.ndarray) -> Estimate:
    """Estimate the mean of values (cases,) over the splits of these cases, or over trainings."""
    if _shares_rows(cases):
        return of_repetitions(values)
    by_split = pd.Series(values).groupby(cases["data_seed"].to_numpy()).mean()
    return of_repetitions(by_split, _ratio(cases))


def mean_by_row(seeds: pd.DataFrame) -> np.ndarray:
    """Log-density of each test row, nats, (rows,): the mean over cases that share these rows."""
    rows = [own["test_log_prob"] for own in arrays_by_case(seeds, "test_log_prob")]
    return np.asarray(np.mean(rows, axis=0, dtype=float))


def error_over_rows(seeds: pd.DataFrame) -> float:
    """Standard error over test rows, clustered, of the mean over seeds, else of one case, nats."""
    if not _has_rows(seeds) or not _shares_rows(seeds):
        return float(seeds["test_ll_se"].mean())
    return of_rows(mean_by_row(seeds), _groups(seeds)).error


def _pairs(one: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    """Positions (pairs, 2) of cases of one seed and split; a baseline has all of its split."""
    sides: list[dict[tuple[int | None, int], int]] = []
    for side in (one, other):
        places: dict[tuple[int | None, int], int] = {}
        rows = zip(side["seed"], _splits(side), is_baseline(side), strict=True)
        for place, (seed, split, baseline) in enumerate(rows):
            places[seed, split] = place
            if baseline:  # stands beside every seed
                places.setdefault((None, split), place)
        sides.append(places)
    pairs = [
        [side.get((seed, split), side.get((None, split))) for side in sides]
        for seed, split in sorted({pair for side in sides for pair in side if pair[0] is not None})
    ]
    return np.array([pair for pair in pairs if None not in pair], dtype=int).reshape(-1, 2)


def facts_of(cases: pd.DataFrame) -> Mapping[str, Any]:
    """What the notes of the first case say of the data."""
    notes = cases["notes"].iloc[0] if "notes" in cases else None
    return notes.get("data", {}) if isinstance(notes, dict) else {}


def _splits(cases: pd.DataFrame) -> pd.Series:
    """The split of each case: the seed of its data, 0 of a published split."""
    return cases["data_seed"] * (facts_of(cases).get("split") != "published")


def _shares_rows(cases: pd.DataFrame) -> bool:
    """Whether all cases are scored on the rows of one split."""
    return _splits(cases).nunique() == 1


def _has_rows(cases: pd.DataFrame) -> bool:
    """Whether each of the cases has the log-densities of its test rows."""
    return len(holding(cases, "test_log_prob")) == len(cases)


def _ratio(cases: pd.DataFrame) -> float:
    """n_test / n_train of random splits; 0 of draws, NaN where records do not say."""
    facts = facts_of(cases)
    if facts.get("split") == "drawn":
        return 0.0
    rows = facts.get("rows")
    return rows["test"] / rows["train"] if isinstance(rows, dict) else math.nan


def _groups(cases: pd.DataFrame) -> np.ndarray | None:
    """Labels of dependent test rows, (rows,); None if rows are independent."""
    return arrays_by_case(cases.iloc[:1], "test_groups")[0].get("test_groups")


def _by_row(one: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """Estimate the mean difference over test rows; without an error if these are not the same."""
    first, second = mean_by_row(one), mean_by_row(other)
    if len(first) != len(second):
        return Estimate(float(first.mean() - second.mean()), math.nan, math.nan)
    return of_rows(first - second, _groups(one))
