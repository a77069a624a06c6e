"""Growth of cost with a size: degrees of exact counts, local exponents of times."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from benchmarks.analysis import scaling_law
from benchmarks.analysis.polynomials import tail_polynomial
from benchmarks.analysis.scaling_law import Law
from benchmarks.analysis.sizes import FEWEST
from benchmarks.core.exhibit import RECORDS
from benchmarks.core.frame import trace_of
from benchmarks.core.metrics import METRICS

ONCE = "precomputation_flops"  # of log_prob's FLOPs: computed once for a batch
STOCHASTIC = ("hutchinson", "bottleneck")  # estimators of the trace
FIXED, FOLLOWS = "fixed", "H = c D"  # the width, against the dimension


@dataclass(frozen=True)
class Growth:
    """Growth of a cost with a size.

    ``degree`` is that of the polynomial: of exact counts, None if they are of none, or of the law
    fitted to times. ``exponent`` is d ln cost / d ln size at the ``largest`` size, for times with a
    95 % ``interval``. It is a lower bound of the asymptote's unless that is ``reached``.
    ``breaks`` are the sizes from which on times differ by a factor.
    """

    degree: int | None
    exponent: float
    largest: float
    interval: tuple[float, float] | None = None
    reached: bool = True
    breaks: tuple[float, ...] = ()


def growth(group: pd.DataFrame, metric: str, by: str = "dim") -> Growth | None:
    """Growth of a metric of a batch with the size ``by``; None for fewer than `FEWEST` sizes.

    FLOPs of log_prob grow with D as a row's do: without those that are spent once for a batch.
    Times have no asymptote where the FLOPs of their call are of a higher degree.
    """
    if by == "dim" and metric.startswith("log_prob_") and ONCE in group:
        rest = group["log_prob_flops"] - group[ONCE].fillna(0)
        group = group.assign(log_prob_flops=rest)
    if METRICS[metric].kind != "time":
        return counts(group, metric, by)
    return _times(group, metric, counts(group, metric.replace("_seconds", "_flops"), by), by)


def counts(group: pd.DataFrame, metric: str, by: str = "dim") -> Growth | None:
    """Growth of exact counts of a batch as they are; None for fewer than `FEWEST` sizes."""
    if metric not in group:
        return None
    known = group[group[metric] > 0].drop_duplicates(by).sort_values(by)  # seeds have equal counts
    if len(known) < FEWEST:
        return None
    sizes, values = [int(size) for size in known[by]], [int(value) for value in known[metric]]
    try:
        _, coefficients = tail_polynomial(sizes, values)
    except ValueError:
        (low, high), (before, after) = sizes[-2:], values[-2:]
        return Growth(None, float(np.log(after / before) / np.log(high / low)), high)
    parts = [float(c * sizes[-1] ** power) for power, c in enumerate(coefficients)]
    exponent = sum(power * part for power, part in enumerate(parts)) / sum(parts)
    return Growth(len(parts) - 1, exponent, sizes[-1])


def _times(group: pd.DataFrame, metric: str, counted: Growth | None, by: str) -> Growth | None:
    known = group[group[metric].notna()] if metric in group else group[:0]
    if known[by].nunique() < FEWEST:
        return None
    samples = known.groupby(by)[f"{metric}.values"].agg(lambda lists: list(itertools.chain(*lists)))
    law = _fitted(tuple(samples.index), tuple(map(tuple, samples)))
    steeper = counted is not None and counted.degree is not None and law.degree < counted.degree
    reached = law.asymptotic and not steeper
    largest = float(samples.index[-1])
    return Growth(law.degree, law.exponent, largest, law.interval, reached, law.breaks)


@lru_cache(1024)
def _fitted(sizes: tuple[float, ...], samples: tuple[tuple[float, ...], ...]) -> Law:
    """The same law for a table and a figure, fitted once."""
    return scaling_law.fit(sizes, samples)


def degrees(scans: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Degrees in D of the series of `sizes.scans` whose counts are of a polynomial.

    Columns: series, flow, trace (estimator; None for a flow without that option), stochastic,
    depth, width (`FIXED` or `FOLLOWS`; a width that parameters decide is neither, and left out),
    degree, dim (the largest) and records (keys).
    """
    rows = []
    for name, group in scans.groupby("series"):
        grown, first = growth(group, metric), group.iloc[0]
        if grown is None or grown.degree is None or _ruled(first, "parameters"):
            continue
        option = first.get("option.trace")
        trace = trace_of(option)["estimator"] if isinstance(option, str | dict) else None
        rows.append(
            {
                "series": str(name),
                "flow": first["flow"],
                "trace": trace,
                "stochastic": trace in STOCHASTIC,
                "depth": first.get("option.depth"),
                "width": FOLLOWS if _ruled(first, "hidden_per_dim") else FIXED,
                "degree": grown.degree,
                "dim": int(grown.largest),
                RECORDS: tuple(group["key"]),
            }
        )
    columns = ["series", "flow", "trace", "stochastic", "depth", "width", "degree", "dim"]
    return pd.DataFrame(rows, columns=[*columns, RECORDS])


def _ruled(first: pd.Series, rule: str) -> bool:
    return bool(pd.notna(first.get(f"setting.{rule}")))
