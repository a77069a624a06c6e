"""How a cost grows: the local exponent between neighbouring sizes, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.stats import bootstrap_medians


@dataclass(frozen=True)
class Exponent:
    """d ln cost / d ln size between the two largest sizes, with a 95 % bootstrap interval.

    ``settled`` is False where the exponent still rises by more than 0.2 from one pair of sizes to
    the next: then the asymptote is not reached and the value is a lower bound.
    """

    value: float
    low: float
    high: float
    settled: bool

    def __str__(self) -> str:
        return f"{'' if self.settled else '≥ '}{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def local_exponent(sizes: Sequence[float], samples: Sequence[Sequence[float]]) -> Exponent:
    """The exponent at the largest size, from the raw samples of each size.

    A straight line through all log-log points would be bent by the fixed overhead that every call
    has; the last pair of sizes is bent least. ValueError below three sizes.
    """
    if len(sizes) < 3:
        raise ValueError(f"a local exponent needs at least three sizes, got {len(sizes)}")
    order = np.argsort(sizes)[-3:]
    logs = np.log(np.asarray(sizes, dtype=float)[order])
    medians = np.log([np.median(samples[i]) for i in order])
    slopes = np.diff(medians) / np.diff(logs)
    drawn = np.log([bootstrap_medians(samples[i], seed=int(i)) for i in order[-2:]])
    low, high = np.quantile((drawn[1] - drawn[0]) / (logs[2] - logs[1]), [0.025, 0.975])
    settled = bool(slopes[1] - slopes[0] <= 0.2)
    return Exponent(float(slopes[1]), float(low), float(high), settled)
