"""Standard errors, intervals and tests: means and slopes by Student's t, ratios by bootstrap."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy  # whose statistics take long to import
from numpy.typing import ArrayLike
from scipy import special

ORDERS = math.factorial(7)  # of the x of lines by which their slope is tested
Standing = Literal["ahead", "behind", "level", "open"]


@dataclass(frozen=True)
class Estimate:
    """A mean difference, its standard error, and degrees of freedom of Student's t.

    Without a known error, NaN, the interval is NaN and both tests have a p-value of NaN.
    """

    value: float
    error: float = math.nan
    freedom: float = math.nan

    def half(self, level: float) -> float:
        """Half of the width of the interval of confidence 1 - level."""
        return -float(special.stdtrit(self.freedom, level / 2)) * self.error

    def interval(self, level: float) -> tuple[float, float]:
        """The ends of the interval of confidence 1 - level."""
        half = self.half(level)
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """p-value, two-sided, of the hypothesis that the difference is 0."""
        return min(1.0, 2 * self._beyond(abs(self.value)))

    def p_apart(self, margin: float) -> float:
        """p-value of the hypothesis that the difference is the margin or more, of either sign.

        The larger of two one-sided tests (Schuirmann, A comparison of the two one-sided tests
        procedure and the power approach, 1987): a small one shows equivalence.
        """
        return self._beyond(margin - abs(self.value))

    def _beyond(self, distance: float) -> float:
        """Chance that an error is above a distance; 0 and 1 where there is no error."""
        if self.error == 0:
            return float(distance <= 0)
        return float(special.stdtr(self.freedom, -distance / self.error))


@dataclass(frozen=True)
class Trend:
    """A slope, and the slopes at which each other order of the x is as steep; one order has none.

    Tests and interval are exact where, but for the slope, the x are exchangeable.
    """

    value: float
    turns: np.ndarray  # at most orders - 1
    orders: int

    def p_most(self, slope: float) -> float:
        """p-value, one-sided, of the hypothesis that the slope is at most this one."""
        return float(self.orders - np.count_nonzero(self.turns > slope)) / self.orders

    def p_least(self, slope: float) -> float:
        """p-value, one-sided, of the hypothesis that the slope is at least this one."""
        return float(self.orders - np.count_nonzero(self.turns < slope)) / self.orders

    def interval(self, level: float) -> tuple[float, float]:
        """The ends of the interval of confidence 1 - level; infinite of too few orders for it."""
        if self.orders * level < 2:
            return -math.inf, math.inf
        low, high = np.quantile(self.turns, [level / 2, 1 - level / 2])
        return float(low), float(high)


def of_repetitions(values: ArrayLike, ratio: float = 0.0) -> Estimate:
    """Estimate the mean of values (n,), one a repetition; the error is NaN if n < 2.

    ``ratio`` is n_test / n_train where repetitions are random splits of one table: their training
    parts overlap, and the variance of the mean is s² (1/n + ratio) in place of s²/n (Nadeau and
    Bengio, Inference for the Generalization Error, 2003).
    """
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return Estimate(float(x.mean()) if len(x) else math.nan)
    spread = 0.0 if np.ptp(x) == 0 else float(x.std(ddof=1))
    return Estimate(float(x.mean()), spread * math.sqrt(1 / len(x) + ratio), len(x) - 1)


def of_samples(one: ArrayLike, other: ArrayLike) -> Estimate:
    """Estimate the difference of the means of two independent samples (Welch 1947)."""
    first, second = map(of_repetitions, (one, other))
    return with_error_of(replace(first, value=first.value - second.value), second)


def of_rows(values: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """Estimate the mean of values (rows,); ``groups`` labels the rows that are dependent."""
    x = np.asarray(values, dtype=float)
    count = len(x) if groups is None else len(np.unique(groups))
    return Estimate(float(x.mean()), standard_error(x, groups), count - 1 or math.nan)


def of_parallel_lines(x: ArrayLike, y: ArrayLike, lines: ArrayLike) -> Trend:
    """Estimate the slope that lines share through points (n,), each line with its own level.

    ``lines`` labels the points of a line. Points of one x may have errors in common, whatever the
    line: the slope is that of least squares within lines, and is tested by all orders of the
    different x, or `ORDERS` random ones, each x moved with all of its points (Pitman, Significance
    tests which may be applied to samples from any populations, 1937). A sandwich of so few
    clusters would reject too often. ValueError below three x, and where no line has two.
    """
    values, place = np.unique(np.asarray(x, dtype=float), return_inverse=True)
    names, line = np.unique(np.asarray(lines), return_inverse=True)
    count, rng = len(values), np.random.default_rng(0)
    if math.factorial(count) <= ORDERS:
        orders = np.array(list(itertools.permutations(range(count))))
    else:
        orders = np.array([np.arange(count), *(rng.permutation(count) for _ in range(ORDERS - 1))])
    level = np.eye(len(names))[line]
    moved = values[orders][:, place]
    moved = moved - (moved @ level / level.sum(0)) @ level.T
    lengths = np.linalg.norm(moved, axis=1)
    if count < 3 or lengths[0] <= 1e-9 * np.linalg.norm(values):
        raise ValueError(f"a common slope needs lines through three different x, got {count} x")
    moved, y = moved[lengths > 0] / lengths[lengths > 0, None], np.asarray(y, dtype=float)
    steeper, apart = (moved[0] - moved) @ y, (moved[0] - moved) @ values[place]
    differs = apart > 1e-9 * lengths[0]
    value = float(moved[0] @ y) / lengths[0]
    return Trend(float(value), steeper[differs] / apart[differs], len(orders))


def with_error_of(estimate: Estimate, other: Estimate) -> Estimate:
    """Add the error of an independent source to an estimate, in squares.

    Degrees of freedom are those of Satterthwaite (1946).
    """
    sources = estimate, other
    variances = [source.error**2 for source in sources]
    total = sum(variances)
    parts = [v**2 / source.freedom for v, source in zip(variances, sources, strict=True)]
    freedom = total**2 / sum(parts) if total > 0 else min(source.freedom for source in sources)
    return Estimate(estimate.value, math.sqrt(total), freedom)


def signed_ranks(differences: ArrayLike) -> np.ndarray:
    """Signed ranks of differences (n,), scaled so that their mean is from -1 to 1.

    It is Wilcoxon's statistic W / (n (n + 1) / 2), zeros ranked as by Pratt. Student's t of signed
    ranks is the rank test (Conover and Iman, Rank Transformations as a Bridge Between Parametric
    and Nonparametric Statistics, 1981).
    """
    x = np.asarray(differences, dtype=float)
    return np.asarray(np.sign(x) * scipy.stats.rankdata(np.abs(x)) * 2 / (len(x) + 1))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of independent estimates."""
    count, total = len(estimates), estimates[0]
    for estimate in estimates[1:]:
        total = with_error_of(replace(total, value=total.value + estimate.value), estimate)
    return Estimate(total.value / count, total.error / count, total.freedom)


def standings(estimates: Mapping[str, tuple[Estimate, float]], level: float) -> dict[str, Standing]:
    """How the first of each comparison stands to the other, all tested together.

    Each comes with its margin. "level" where the difference is below the margin, else "ahead" or
    "behind" where it is not 0, each at the family-wise level by Holm's correction over the
    comparisons; "open" where neither is shown.
    """
    apart = holm([estimate.p for estimate, _ in estimates.values()])
    within = holm([estimate.p_apart(margin) for estimate, margin in estimates.values()])
    verdicts: dict[str, Standing] = {}
    for (name, (estimate, _)), p, p_apart in zip(estimates.items(), apart, within, strict=True):
        side: Standing = "ahead" if estimate.value > 0 else "behind"
        verdicts[name] = "level" if p_apart < level else side if p < level else "open"
    return verdicts


def standard_error(values: ArrayLike, groups: ArrayLike | None = None) -> float:
    """Standard error of the mean of ``values``; clustered where rows of a group are dependent.

    With groups the variance of the mean is that of the groups' summed deviations, with the usual
    correction G/(G-1) for G groups (Cameron and Miller, A Practitioner's Guide to Cluster-Robust
    Inference, 2015). NaN where there is a single value or group.
    """
    x = np.asarray(values, dtype=float)
    labels = np.arange(len(x)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(labels, weights=x - x.mean())
    if len(sums) < 2:
        return float("nan")
    return float(np.sqrt(len(sums) / (len(sums) - 1) * np.sum(sums**2)) / len(x))


def ratio_of_medians(
    numerator: ArrayLike, denominator: ArrayLike, repetitions: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """The ratio of two medians of raw samples, and the ends of its 95 % bootstrap interval."""
    medians, resampled = [], []
    for side, samples in enumerate((numerator, denominator)):
        x = np.asarray(samples, dtype=float)
        picks = np.random.default_rng(2 * seed + side).integers(len(x), size=(repetitions, len(x)))
        medians.append(np.median(x))
        resampled.append(np.median(x[picks], axis=1))
    low, high = np.quantile(resampled[0] / resampled[1], [0.025, 0.975])
    return float(medians[0] / medians[1]), float(low), float(high)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number: one below a level is significant among all of them.

    NaN, of what cannot be tested, stays NaN and is not counted. Holm, A simple sequentially
    rejective multiple test procedure, 1979.
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")  # NaN last
    order = order[: np.count_nonzero(~np.isnan(values))]
    scaled = np.minimum(1.0, np.arange(len(order), 0, -1) * values[order])
    adjusted = np.full(len(values), math.nan)
    adjusted[order] = np.maximum.accumulate(scaled)
    return list(map(float, adjusted))
