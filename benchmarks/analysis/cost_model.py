"""Costs of several sizes at once: which of the stated terms they are made of, and how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis import least_squares
from benchmarks.analysis.least_squares import TIE
from benchmarks.analysis.scaling_law import redrawn

MOST = 10  # terms: all their subsets are tried


@dataclass(frozen=True)
class CostModel:
    """cost = Σ coefficient x term, with coefficients of zero left out.

    ``coefficients`` and their 95 % ``intervals`` are by the name of the term; ``shares`` are what
    the terms contribute to the largest cost, and ``error`` is the root mean square of the relative
    errors.
    """

    coefficients: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    shares: dict[str, float]
    error: float


def fit(
    terms: Mapping[str, Sequence[float]], samples: Sequence[Sequence[float]], seed: int = 0
) -> CostModel:
    """The model of costs from the raw samples of each measured point.

    ``terms`` has the value of each candidate at each of the points: for the sizes D, H, N and the
    evaluations NFE of a continuous flow "N H D NFE" and "N H² NFE", say, and "1". Terms come in by
    the means of `scaling_law.fit`: non-negative, by relative error and BIC, of ties the fewest.
    ValueError for more than ten terms, fewer points than two more than terms, or values that are
    not positive.
    """
    names = list(terms)
    basis = np.array([terms[name] for name in names], dtype=float).T
    times = [np.asarray(t, dtype=float) for t in samples]
    if not 1 <= len(names) <= MOST:
        raise ValueError(f"a cost model has 1 to {MOST} terms, got {len(names)}")
    if len(times) != len(basis) or len(times) < len(names) + 2:
        raise ValueError(
            f"{len(names)} terms need {len(names) + 2} points or more, with samples at each: got "
            f"{len(basis)} points and samples of {len(times)}"
        )
    if not (basis > 0).all() or not all(len(t) and (t > 0).all() for t in times):
        raise ValueError("the terms and the samples of a cost model have to be positive")
    medians = np.array([np.median(t) for t in times])
    chosen = [float(c) for c in _chosen(basis, medians[None])[0]]
    predicted = basis @ chosen
    drawn = _chosen(basis, redrawn(times, predicted, sum(c > 0 for c in chosen), seed))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    largest = int(predicted.argmax())
    kept = [index for index in range(len(names)) if chosen[index] > 0]
    return CostModel(
        coefficients={names[i]: chosen[i] for i in kept},
        intervals={
            names[i]: (min(float(low[i]), chosen[i]), max(float(high[i]), chosen[i])) for i in kept
        },
        shares={names[i]: float(chosen[i] * basis[largest, i] / predicted[largest]) for i in kept},
        error=float(np.sqrt(np.mean((predicted / medians - 1) ** 2))),
    )


def _chosen(basis: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Coefficients (B, K) of costs (B, n): the fewest terms that are as good as any."""
    found = least_squares.fit(basis, costs)
    size = found.supports.sum(1)
    best = found.bic.min(0)
    # fewer terms first, and among as many the better fit
    rank = np.where(found.bic <= best + TIE, size[:, None] + (found.bic - best) / (4 * TIE), np.inf)
    return np.asarray(found.coefficients[rank.argmin(0), np.arange(len(costs))])
