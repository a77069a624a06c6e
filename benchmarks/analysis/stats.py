"""Statistics of measured values: standard errors, intervals and corrected p-values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


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


def bootstrap_medians(samples: ArrayLike, repetitions: int = 1000, seed: int = 0) -> np.ndarray:
    """Medians of ``repetitions`` resamplings of raw samples, (repetitions,)."""
    x = np.asarray(samples, dtype=float)
    picks = np.random.default_rng(seed).integers(len(x), size=(repetitions, len(x)))
    return np.asarray(np.median(x[picks], axis=1))


def ratio_of_medians(
    numerator: ArrayLike, denominator: ArrayLike, repetitions: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """The ratio of two medians of raw samples, and the ends of its 95 % bootstrap interval."""
    resamples = [
        bootstrap_medians(samples, repetitions, 2 * seed + side)
        for side, samples in enumerate((numerator, denominator))
    ]
    low, high = np.quantile(resamples[0] / resamples[1], [0.025, 0.975])
    value = np.median(np.asarray(numerator)) / np.median(np.asarray(denominator))
    return float(value), float(low), float(high)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number: one below a level is significant among all of them.

    NaN, of what cannot be tested, stays NaN and is not counted. Holm, A simple sequentially
    rejective multiple test procedure, 1979.
    """
    tested = sorted((i for i in range(len(p)) if p[i] == p[i]), key=lambda i: p[i])
    adjusted, highest = [float("nan")] * len(p), 0.0
    for rank, index in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted
