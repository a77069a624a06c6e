"""Models of one data set compared in pairs, split by split and row by row.

The mean of a split can hang on one row, so that signed ranks of its rows are tested beside it. A
plain signed-rank test over splits is not used: of five its least p-value is 1/16, and random splits
of one table overlap, which it takes for independent ones and rejects too often. The ranks of each
split are averaged, and these means tested over splits as those of likelihoods are, with the same
correction. Without the rows of its splits a comparison has a direction of ranks and no test.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
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
    signed_ranks,
    standings,
    with_error_of,
)
from benchmarks.core.frame import arrays_by_case, holds
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
UNKNOWN = Estimate(math.nan)
TRIMMED = 0.01  # share of the rows that a trimmed mean leaves out at either end
ROBUST = (
    f"Median and mean without {TRIMMED:.0%} of the rows at either end, means over splits: where "
    "trimming moves the distance to the best by more than half of it and more than what is level."
)


@dataclass(frozen=True)
class Comparison:
    """Mean log-likelihood of a model less that of another, nats, and what its error is over."""

    estimate: Estimate
    basis: str  # a name of `BASES`
    seeds: int  # the number of repetitions
    margin: float  # nats, below which the two are level
    ranks: Estimate = UNKNOWN  # mean signed rank of the differences of rows, from -1 to 1

    @property
    def tested(self) -> Estimate:
        """The estimate, without its error where that is over the rows of one seed."""
        has_error = self.basis not in ("rows", "none")
        return self.estimate if has_error else Estimate(self.estimate.value)

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
    return standings({name: (c.tested, c.margin) for name, c in comparisons.items()}, level)


def by_ranks(comparisons: Mapping[str, Comparison], level: float = LEVEL) -> dict[str, Standing]:
    """Where signed ranks, tested together, disagree with `standing`: what they say, by name.

    What is level is so by its size, of which ranks say nothing; ranks that are not tested leave a
    lead of the other sign open.
    """
    means = standing(comparisons, level)
    ranks = standings({name: (c.ranks, 0.0) for name, c in comparisons.items()}, level)
    for name, c in comparisons.items():
        if math.isnan(c.ranks.error) and not c.ranks.value * c.estimate.value < 0:
            ranks[name] = means[name]
    return {name: how for name, how in ranks.items() if means[name] not in ("level", how)}


def leader(comparisons: Mapping[str, Comparison]) -> bool:
    """Whether a model that is compared with all others is ahead of each of them."""
    return bool(comparisons) and set(standing(comparisons).values()) == {"ahead"}


def gap_of(models: Iterable[pd.DataFrame]) -> float:
    """What the best model of a data set gains over its best Gaussian, nats; infinite without one.

    ``models`` have the cases of one model each.
    """
    means = pd.DataFrame([(model["flow"].iloc[0], model["test_ll"].mean()) for model in models])
    gaussians = means[1][means[0] == "gaussian"] if len(means) else means
    return float(means[1].max() - gaussians.max()) if len(gaussians) else math.inf


def compare(
    one: pd.DataFrame, other: pd.DataFrame, metric: str = "test_ll", gap: float = math.inf
) -> Comparison:
    """Compare two models by their cases on one data set, a row a seed; `gap_of` it sets the margin.

    Cases are paired by seed and split; a fitted baseline stands beside every training on its
    split. Where each seed has a random split of one table, the variance is corrected for their
    overlap; where each has a draw of its own, there is none. Where all share their test rows, the
    error over these, clustered, is added in squares to that over trainings. Without pairs the two
    are compared as independent samples.
    """
    least = margin(int(one["dim"].iloc[0]), gap)
    if one["key"].tolist() == other["key"].tolist():
        return Comparison(Estimate(0.0), "none", len(one), least)
    pairs = _pairs(one, other)
    if not len(pairs):
        sides = [side[metric].to_numpy(dtype=float) for side in (one, other)]
        count = min(map(len, sides))
        return Comparison(of_samples(*sides), "different splits", count, least)
    firsts, seconds = one.iloc[pairs[:, 0]], other.iloc[pairs[:, 1]]
    differences = firsts[metric].to_numpy(dtype=float) - seconds[metric].to_numpy(dtype=float)
    shares = _shares_rows(firsts)
    stored = metric == "test_ll" and _has_rows(one) and _has_rows(other)
    rows = _by_row(firsts, seconds) if shares and stored else None
    if len(pairs) == 1:
        return Comparison(rows or Estimate(float(differences[0])), "rows", 1, least)
    estimate = over_seeds(firsts, differences)
    if rows is not None:
        estimate = with_error_of(estimate, rows)
    basis = "trainings" if shares else "splits" if _ratio(firsts) else "draws"
    direction = Estimate(float(signed_ranks(differences).mean()))
    ranks = _ranks(firsts, seconds) if stored else direction
    return Comparison(estimate, basis, len(pairs), least, ranks)


def rivals(
    models: Mapping[str, pd.DataFrame], metric: str = "test_ll", gap: float = math.inf
) -> tuple[str, dict[str, Comparison]]:
    """The name of the model with the highest mean, and it compared with each of the others.

    A model that lacks splits which another has is not the best: its mean is over other rows.
    """
    counts = {name: splits_in(cases) for name, cases in models.items()}
    candidates = [name for name in models if counts[name] == max(counts.values())]
    best = max(candidates, key=lambda name: float(models[name][metric].mean()), default="")
    others = {name: cases for name, cases in models.items() if name != best}
    return best, {name: compare(models[best], cases, metric, gap) for name, cases in others.items()}


def over_seeds(cases: pd.DataFrame, values: np.ndarray) -> Estimate:
    """Estimate the mean of values (cases,) over the splits of these cases, or over trainings."""
    if _shares_rows(cases):
        return of_repetitions(values)
    by_split = pd.Series(values).groupby(cases["data_seed"].to_numpy()).mean()
    return of_repetitions(by_split, _ratio(cases))


def mean_by_row(seeds: pd.DataFrame) -> np.ndarray:
    """Log-density of each test row, nats, (rows,): the mean over cases that share these rows."""
    return np.asarray(np.mean(_rows(seeds), axis=0))


def _rows(cases: pd.DataFrame) -> list[np.ndarray]:
    """Log-densities of the test rows of each case, nats."""
    every = arrays_by_case(cases, "test_log_prob")
    return [arrays["test_log_prob"].astype(float) for arrays in every]


def error_over_rows(seeds: pd.DataFrame) -> float:
    """Standard error over test rows, clustered, of the mean over seeds, else of one case, nats."""
    if not _has_rows(seeds) or not _shares_rows(seeds):
        return float(seeds["test_ll_se"].mean())
    return of_rows(mean_by_row(seeds), _groups(seeds)).error


def robust(best: pd.DataFrame, model: pd.DataFrame, least: float) -> dict[str, Any]:
    """Median and trimmed mean of a model, nats, and its worst row, where few rows decide its mean.

    They do where the distance to the best is another by trimmed means: by more than half of it, and
    by more than ``least``, what counts as level. Else empty, and without rows of both.
    """
    from scipy.stats import trim_mean  # which takes a second

    pairs = _pairs(best, model)
    sides = [side.iloc[places] for side, places in zip((best, model), pairs.T, strict=True)]
    if not len(pairs) or not all(map(_has_rows, sides)):
        return {}
    rows = [*map(_rows, sides)]
    means, trimmed = (
        [np.mean([mean(x) for x in side]) for side in rows]
        for mean in (np.mean, partial(trim_mean, proportiontocut=TRIMMED))
    )
    lag, other = (first - second for first, second in (means, trimmed))
    if abs(lag - other) < max(least, abs(lag) / 2):
        return {}
    place = int(np.argmin([x.min() for x in rows[1]]))
    row, split = int(rows[1][place].argmin()), sides[1]["data_seed"].iloc[place]
    worst = f"{rows[1][place][row]:,.0f}: row {row} of split {split}"
    return {"median": np.mean([*map(np.median, rows[1])]), "trimmed": trimmed[1], "worst": worst}


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
    """What the notes of the first case say of the data; empty without any."""
    notes = next(iter(cases.get("notes", ())), None)
    return notes.get("data", {}) if isinstance(notes, dict) else {}


def _splits(cases: pd.DataFrame) -> pd.Series:
    """The split of each case: the seed of its data, 0 of a published split."""
    return cases["data_seed"] * (facts_of(cases).get("split") != "published")


def splits_in(cases: pd.DataFrame) -> int:
    """The number of splits that cases of one data set are on."""
    return int(_splits(cases).nunique())


def _shares_rows(cases: pd.DataFrame) -> bool:
    """Whether all cases are scored on the rows of one split."""
    return splits_in(cases) == 1


def _has_rows(cases: pd.DataFrame) -> bool:
    """Whether each of the cases has the log-densities of its test rows."""
    return bool(holds(cases, "test_log_prob").all())


def _ratio(cases: pd.DataFrame) -> float:
    """n_test / n_train of random splits; 0 of draws, which share no rows; NaN if not recorded."""
    facts = facts_of(cases)
    if facts.get("split") in ("drawn", "disjoint"):
        return 0.0
    rows = facts.get("rows")
    return rows["test"] / rows["train"] if isinstance(rows, dict) else math.nan


def _groups(cases: pd.DataFrame) -> np.ndarray | None:
    """Labels of dependent test rows, (rows,); None if rows are independent."""
    return arrays_by_case(cases.iloc[:1], "test_groups")[0].get("test_groups")


def _by_row(one: pd.DataFrame, other: pd.DataFrame, score: Any = np.asarray) -> Estimate:
    """Estimate the mean score of rows' differences; without an error if rows are not the same."""
    first, second = mean_by_row(one), mean_by_row(other)
    if len(first) != len(second):
        return Estimate(float(first.mean() - second.mean()))
    return of_rows(score(first - second), _groups(one))


def _ranks(one: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """Estimate the mean signed rank of rows over pairs of cases; unknown if their rows differ."""
    pairs = [*zip(_rows(one), _rows(other), strict=True)]
    if any(len(first) != len(second) for first, second in pairs):
        return UNKNOWN
    ranks = over_seeds(one, np.array([signed_ranks(a - b).mean() for a, b in pairs]))
    return with_error_of(ranks, _by_row(one, other, signed_ranks)) if _shares_rows(one) else ranks
