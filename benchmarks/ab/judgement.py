"""What blocks of paired times say: a ratio with its interval, a rank test, and a verdict.

A block's logarithm of the ratio new over base is a paired sample. Where the sides are equal it is
symmetric about zero, whatever the noise, because which side goes first is drawn; so Wilcoxon's
signed-rank test holds (Individual comparisons by ranking methods, 1945), and the estimate that
belongs to it is the median of the pairwise means (Hodges and Lehmann, 1963). The p values are
corrected for the number of benchmarks by Holm's method (A simple sequentially rejective multiple
test procedure, 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from benchmarks.ab.benches import FACTOR
from benchmarks.ab.schedule import BASE, NEW, Block, Visit
from benchmarks.analysis.holm import holm

LEVEL = 0.05


@dataclass(frozen=True)
class Judged:
    """A benchmark's verdict; ``p`` is corrected, ``low`` and ``high`` the ratio's 95 % interval.

    slower, faster: the ratio is beyond the factor, and p below `LEVEL`; same: not so; too few:
    no number of blocks like this could tell.
    """

    ratio: float
    low: float
    high: float
    p: float
    verdict: str


def log_ratios(blocks: Sequence[Block], clock: str = "processor") -> np.ndarray:
    """log(new / base) of each block (blocks,), of the shortest call of each visit."""

    def level(visits: Sequence[Visit]) -> float:
        return float(np.mean([np.log(min(visit[clock])) for visit in visits]))

    return np.array([level(block[NEW]) - level(block[BASE]) for block in blocks])


def judge(samples: Mapping[str, ArrayLike], factor: float = FACTOR) -> dict[str, Judged]:
    """A verdict on each benchmark from its blocks' log-ratios, (blocks,) each at least one."""
    logs = {name: np.asarray(values, dtype=float) for name, values in samples.items()}
    corrected = dict(zip(logs, holm([_p(values) for values in logs.values()]), strict=True))
    found = {}
    for name, values in logs.items():
        ratio, low, high = (float(np.exp(value)) for value in _shift(values))
        least = 2.0 ** (1 - len(values)) * len(logs)  # p, were all blocks of one sign
        verdict = _verdict(ratio, corrected[name], factor) if least <= LEVEL else "too few"
        found[name] = Judged(ratio, low, high, corrected[name], verdict)
    return found


def _p(values: np.ndarray) -> float:
    if not np.any(values):
        return 1.0
    return float(stats.wilcoxon(values).pvalue)


def _shift(values: np.ndarray) -> tuple[float, float, float]:
    """Hodges and Lehmann's estimate, and the ends of the interval that the test does not reject."""
    n = len(values)
    rows, columns = np.triu_indices(n)
    means = np.sort((values[rows] + values[columns]) / 2)
    spread = stats.norm.ppf(0.975) * np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    outside = max(0, int(len(means) / 2 - spread))
    return float(np.median(means)), float(means[outside]), float(means[-1 - outside])


def _verdict(ratio: float, p: float, factor: float) -> str:
    if p >= LEVEL or 1 / factor < ratio < factor:
        return "same"
    return "slower" if ratio > 1 else "faster"
