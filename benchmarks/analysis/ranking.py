"""Models over several data sets: mean ranks and which differ, and the gap that each closes.

Friedman's test over the sets, then Nemenyi's critical difference for all pairs (Demšar, Statistical
Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006). Signed-rank tests with Holm's
correction need more sets: of N their least p-value is 2^(1 - N), and ten models make 45 pairs.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
import scipy  # whose statistics take long to import

from benchmarks.analysis.contests import lacks_logit
from benchmarks.analysis.criteria import LEVEL, MARGIN
from benchmarks.analysis.paired import splits_in

SETS, MODELS = 5, 3  # the least that are ranked


@dataclass(frozen=True)
class Ranking:
    """Mean test likelihoods, nats (models, sets), without missing cells; the best model first."""

    likelihoods: pd.DataFrame
    cases: pd.DataFrame  # of these models and sets
    left_out: list[str]  # names of sets, then of models

    @classmethod
    def of(cls, cases: pd.DataFrame) -> Self | None:
        """Rank the ``series`` of done cases by their ``test_ll`` on sets that are `complete`.

        Pixels that `lacks_logit` are left out. None below `SETS` data sets or `MODELS` models.
        """
        cases = cases[cases["status"] == "done"]
        cases = cases.dropna(subset="test_ll") if "test_ll" in cases else cases.iloc[:0]
        sets = [rows for _, rows in cases.groupby("dataset", sort=False) if not lacks_logit(rows)]
        if len(sets) < SETS:
            return None
        cells = pd.concat(sets).groupby(["series", "dataset"], sort=False)
        counts = pd.Series({cell: splits_in(rows) for cell, rows in cells})
        full = counts == counts.groupby(level=1).transform("max")  # else means are of other splits
        means = cells["test_ll"].mean()
        part = complete(means.where(full.reindex(means.index)).unstack(sort=False))
        if len(part) < MODELS or len(part.columns) < SETS:
            return None
        names = (("dataset", part.columns), ("series", part.index))
        others = [n for column, axis in names for n in cases[column].unique() if n not in axis]
        counted = cases["dataset"].isin(part.columns) & cases["series"].isin(part.index)
        return cls(part.loc[mean_ranks(part).sort_values().index], cases[counted], others)

    @cached_property
    def ranks(self) -> pd.Series:
        """The `mean_ranks`."""
        return mean_ranks(self.likelihoods)

    @cached_property
    def p(self) -> float:
        """p-value of the hypothesis that all models are alike; NaN where all are tied on all sets.

        Of Friedman's statistic, corrected for ties, by the F distribution (Iman and Davenport,
        Approximations of the critical region of the Friedman statistic, 1980).
        """
        models, sets = self.likelihoods.shape
        with np.errstate(invalid="ignore"):  # of ties alone
            statistic = scipy.stats.friedmanchisquare(*self.likelihoods.to_numpy()).statistic
        if math.isnan(statistic):
            return math.nan
        rest = max(0.0, sets * (models - 1) - statistic)  # 0 where all sets agree
        ratio = (sets - 1) * statistic / rest if rest else math.inf
        return float(scipy.stats.f.sf(ratio, models - 1, (models - 1) * (sets - 1)))

    def critical(self, level: float = LEVEL) -> float:
        """Nemenyi's difference of mean ranks from which on two models differ at a level."""
        models, sets = self.likelihoods.shape
        quantile = scipy.stats.studentized_range.ppf(1 - level, models, math.inf) / math.sqrt(2)
        return float(quantile * math.sqrt(models * (models + 1) / (6 * sets)))

    @cached_property
    def differ(self) -> np.ndarray:
        """Whether two models differ at `LEVEL`, (models, models); Friedman's test has to reject."""
        apart = np.abs(np.subtract.outer(self.ranks.to_numpy(), self.ranks.to_numpy()))
        return np.asarray((apart >= self.critical()) & (self.p < LEVEL))

    @property
    def alike(self) -> list[tuple[int, int]]:
        """First and last place of each longest run of two models or more that do not differ."""
        ends = [int(np.flatnonzero(~row)[-1]) for row in self.differ]
        starts = [first for first, end in enumerate(ends) if first < end]
        return [(first, ends[first]) for first in starts if ends[first] not in ends[:first]]

    @cached_property
    def closed(self) -> pd.DataFrame:
        """Share of the gap between a Gaussian and the best that each closes, (models, sets).

        Without sets on which the best gains less over the Gaussian than what counts as level. Of
        Gaussians after several preprocessings the lowest is the reference.
        """
        gaussians = self.cases.loc[self.cases["flow"] == "gaussian", "series"].unique()
        least = self.likelihoods.loc[gaussians].min()
        gap = self.likelihoods.max() - least
        gap = gap[gap > MARGIN["most"]]
        return (self.likelihoods[gap.index] - least[gap.index]) / gap


def mean_ranks(likelihoods: pd.DataFrame) -> pd.Series:
    """Mean rank of each model, 1 the best, ties averaged, over the sets (columns) that it has."""
    return likelihoods.rank(ascending=False).mean(axis=1)


def complete(likelihoods: pd.DataFrame) -> pd.DataFrame:
    """The sets that most models have, and of (models, sets) the models that have all of these.

    What is missing alone decides it: a model that failed on a set takes no set away.
    """
    return likelihoods.loc[:, likelihoods.notna().mean() > 0.5].dropna()


def in_order(likelihoods: pd.DataFrame, ranking: Ranking | None) -> pd.Index:
    """Models by their ranking; then others, those with the most sets first, by mean rank."""
    ranks = {"score": ranking.ranks if ranking else pd.Series(dtype=float)}
    ranks |= {"absent": likelihoods.isna().sum(axis=1), "rank": mean_ranks(likelihoods)}
    return pd.DataFrame(ranks, likelihoods.index).sort_values([*ranks]).index
