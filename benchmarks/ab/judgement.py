"""Statistics of blocks of paired times: a ratio with its interval, a rank test, a verdict.

The logarithm of a block's ratio new over base is a paired sample. If both revisions are equally
fast it is symmetric about zero, whatever the noise, because the order within a block is random: so
Wilcoxon's signed-rank test holds (Individual comparisons by ranking methods, 1945). Its estimate is
the median of the pairwise means (Hodges and Lehmann, 1963). The p values are corrected for the
number of benchmarks by Holm's method (A simple sequentially rejective multiple test procedure,
1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from benchmarks.ab.benches import FACTOR
from benchmarks.ab.schedule import BASE, NEW, Block, Visit
from benchmarks.analysis.inference import holm

LEVEL = 0.05


@dataclass(frozen=True)
class Judgement:
    """A ratio new over base with its 95 % interval, its corrected p value and its verdict.

    slower, faster: the ratio is beyond the factor and p is below `LEVEL`; same: otherwise;
    too few: no outcome of so few blocks could be significant.
    """

    ratio: float
    low: float
    high: float
    p: float
    verdict: str


def log_ratios(blocks: Sequence[Block], clock: str = "processor") -> np.ndarray:
    """log(new / base) of each block, (blocks,): from the shortest call of each visit."""

    def level(visits: Sequence[Visit]) -> float:
        return float(np.mean([np.log(min(visit[clock])) for visit in visits]))

    return np.array([level(block[NEW]) - level(block[BASE]) for block in blocks])


def judge(samples: Mapping[str, ArrayLike], factor: float = FACTOR) -> dict[str, Judgement]:
    """Judge each benchmark by the log-ratios of its blocks, (blocks,) with blocks >= 1."""
    logs = {name: np.asarray(values, dtype=float) for name, values in samples.items()}
    corrected = dict(zip(logs, holm([_p(values) for values in logs.values()]), strict=True))
    judgements = {}
    for name, values in logs.items():
        ratio, low, high = (float(np.exp(value)) for value in _shift(values))
        least = 2.0 ** (1 - len(values)) * len(logs)  # p if all blocks have one sign
        verdict = _verdict(ratio, corrected[name], factor) if least <= LEVEL else "too few"
        judgements[name] = Judgement(ratio, low, high, corrected[name], verdict)
    return judgements


def _p(values: np.ndarray) -> float:
    """The p value of Wilcoxon's signed-rank test."""
    if not np.any(values):
        return 1.0
    return float(scipy.stats.wilcoxon(values).pvalue)


def _shift(values: np.ndarray) -> tuple[float, float, float]:
    """Hodges and Lehmann's estimate and the 95 % interval that belongs to the test."""
    n = len(values)
    rows, columns = np.triu_indices(n)
    means = np.sort((values[rows] + values[columns]) / 2)
    spread = scipy.stats.norm.ppf(0.975) * np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    outside = max(0, int(len(means) / 2 - spread))
    return float(np.median(means)), float(means[outside]), float(means[-1 - outside])


def _verdict(ratio: float, p: float, factor: float) -> str:
    if p >= LEVEL or 1 / factor < ratio < factor:
        return "same"
    return "slower" if ratio > 1 else "faster"
