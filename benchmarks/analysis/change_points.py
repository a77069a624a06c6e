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
    series of exchangeable values, of any distribution (Bonferroni). Either side of one is searched
    in turn (binary segmentation; Scott and Knott, A cluster analysis method for grouping means in
    the analysis of variance, 1974). A drift is not exchangeable and is shown as steps.
    """
    x = np.asarray(values, dtype=float)
    if len(x) < 3 or np.ptp(x) == 0:
        return []
    place = _best_split(x)
    sides = x[:place], x[place:]
    method = "exact" if min(map(len, sides)) <= SMALL else "asymptotic"
    p = float(scipy.stats.mannwhitneyu(*sides, method=method).pvalue)
    if p * (len(x) - 1) >= level:
        return []
    before, after = (change_points(side, level) for side in sides)
    return [*before, place, *(place + later for later in after)]


def _best_split(x: np.ndarray) -> int:
    """The place whose standardised rank sum is farthest from its mean."""
    n, ranks = len(x), scipy.stats.rankdata(x)
    before = np.arange(1, n)
    excess = np.cumsum(ranks)[:-1] - before * (n + 1) / 2
    return int(before[np.argmax(np.abs(excess) / np.sqrt(before * (n - before)))])
