"""Change points of a noisy series, by ranks."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike

SMALL = 8  # values on one side up to which p-values are exact, with ties on the safe side


def change_points(values: ArrayLike, level: float) -> list[int]:
    """The places in a series (n,) from which on its values have another location.

    Of all splits in two the one whose sides differ most is tested by Mann and Whitney's test; with
    its p-value times the number of splits, ``level`` bounds the chance of a change point in a
    series of exchangeable values, of any distribution (Bonferroni). The place is the split with the
    least absolute deviations from the medians of its sides. Either side is searched in turn (binary
    segmentation; Scott and Knott, A cluster analysis method for grouping means in the analysis of
    variance, 1974). A drift is not exchangeable, and appears as steps.
    """
    x = np.asarray(values, dtype=float)
    if len(x) < 3 or np.ptp(x) == 0 or not _p(x) * (len(x) - 1) < level:
        return []
    place = 1 + int(np.argmin([_deviation(x[:k]) + _deviation(x[k:]) for k in range(1, len(x))]))
    before, after = (change_points(side, level) for side in (x[:place], x[place:]))
    return [*before, place, *(place + later for later in after)]


def _p(x: np.ndarray) -> float:
    """The p-value of the split whose standardised rank sum is farthest from its mean."""
    n, before = len(x), np.arange(1, len(x))
    excess = np.cumsum(scipy.stats.rankdata(x))[:-1] - before * (n + 1) / 2
    split = int(before[np.argmax(np.abs(excess) / np.sqrt(before * (n - before)))])
    method = "exact" if min(split, n - split) <= SMALL else "asymptotic"
    return float(scipy.stats.mannwhitneyu(x[:split], x[split:], method=method).pvalue)


def _deviation(x: np.ndarray) -> float:
    return float(np.abs(x - np.median(x)).sum())
