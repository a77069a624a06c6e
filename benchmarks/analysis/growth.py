"""Growth of costs with a size, and the dimension from which on one flow is cheaper than another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.polynomial.polynomial import polyadd, polymul

from benchmarks.analysis import scaling_law, sizes
from benchmarks.core.exhibit import RECORDS, per_row
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import width_rules

ONCE = "precomputation_flops"  # of log_prob's FLOPs: computed once for a batch
STOCHASTIC = ("hutchinson", "bottleneck")  # estimators of the trace
FIXED, FOLLOWS = "fixed", "H = c D"  # the width, against the dimension
TAIL = 5  # largest sizes that a polynomial of the larger ones needs: enough for one of degree 3
ALWAYS, NEVER = 0.0, float("inf")  # crossings at all dimensions that were measured, and at none


@dataclass(frozen=True)
class Growth:
    """Growth of a cost with a size."""

    degree: int | None  # of the polynomial of exact counts, if one fits, or of the law of times
    exponent: float  # d ln cost / d ln size at the largest size
    largest: float
    interval: tuple[float, float] | None = None  # of the exponent, 95 %, for times
    reached: bool = True  # whether the exponent is the asymptote's, not a lower bound of it
    breaks: tuple[float, ...] = ()  # sizes from which on times differ by a factor


def growth(group: pd.DataFrame, metric: str, by: str = "dim") -> Growth | None:
    """Growth of a metric of a batch with the size ``by``; None below `sizes.FEWEST` sizes.

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
    """Growth of exact counts of a batch as they are; None below `sizes.FEWEST` sizes."""
    if metric not in group:
        return None
    positive = group[group[metric] > 0].drop_duplicates(by).sort_values(by)  # alike over seeds
    if len(positive) < sizes.FEWEST:
        return None
    x, y = positive[by].astype(int).tolist(), positive[metric].astype(int).tolist()
    try:
        _, coefficients = tail_polynomial(x, y)
    except ValueError:
        return Growth(None, float(np.log(y[-1] / y[-2]) / np.log(x[-1] / x[-2])), x[-1])
    parts = [float(c * x[-1] ** power) for power, c in enumerate(coefficients)]
    exponent = sum(power * part for power, part in enumerate(parts)) / sum(parts)
    return Growth(len(parts) - 1, exponent, x[-1])


def _times(group: pd.DataFrame, metric: str, counted: Growth | None, by: str) -> Growth | None:
    timed = group[group[metric].notna()] if metric in group else group[:0]
    if timed[by].nunique() < sizes.FEWEST:
        return None
    samples = timed.groupby(by)[f"{metric}.values"].agg(lambda lists: list(itertools.chain(*lists)))
    law = _fitted(tuple(samples.index), tuple(map(tuple, samples)))
    steeper = counted is not None and counted.degree is not None and law.degree < counted.degree
    reached = law.asymptotic and not steeper
    largest = float(samples.index[-1])
    return Growth(law.degree, law.exponent, largest, law.interval, reached, law.breaks)


_fitted = lru_cache(1024)(scaling_law.fit)  # once for a table and a figure


def degrees(scans: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Degrees in D of the series of `sizes.scans` whose counts are polynomials.

    Columns: series, flow, trace (estimator; None for a flow without that option), stochastic,
    depth, width (`FIXED` or `FOLLOWS`; a width that parameters decide is neither, and left out),
    degree and records (keys).
    """
    columns = ["series", "flow", "trace", "stochastic", "depth", "width", "degree", RECORDS]
    rows = []
    for name, group in scans.groupby("series"):
        grown, first = growth(group, metric), group.iloc[0]
        if grown is None or grown.degree is None or pd.notna(first.get("setting.parameters")):
            continue
        option = first.get("option.trace")
        trace = option.get("estimator") if isinstance(option, dict) else option
        trace = trace if isinstance(trace, str) else None
        width = FOLLOWS if pd.notna(first.get("setting.hidden_per_dim")) else FIXED
        depth, keys = first.get("option.depth"), tuple(group["key"])
        about = (str(name), first["flow"], trace, trace in STOCHASTIC, depth, width)
        rows.append((*about, grown.degree, keys))
    return pd.DataFrame(rows, columns=columns)


# ---- exact counts -------------------------------------------------------------------------------


def exact_polynomial(x: Sequence[int], y: Sequence[int]) -> list[Fraction]:
    """Return the coefficients, from D⁰ up, of the polynomial through exact counts y at sizes x.

    By divided differences, without statistics. ValueError below three different sizes, and where
    no polynomial fits that these sizes can tell from an interpolation.
    """
    pairs = sorted(set(zip(map(Fraction, x), map(Fraction, y), strict=True)))
    nodes = [size for size, _ in pairs]
    if len(set(nodes)) < len(nodes):
        twice = next(a for a, b in itertools.pairwise(nodes) if a == b)
        raise ValueError(f"size {twice} has more than one count")
    if len(nodes) < 3:
        raise ValueError(f"exact counts need three sizes or more, got {len(nodes)}")
    column, leading = [count for _, count in pairs], list[Fraction]()
    while len(set(column)) > 1:
        leading.append(column[0])
        step = len(leading)
        column = [
            (b - a) / (nodes[i + step] - nodes[i])
            for i, (a, b) in enumerate(itertools.pairwise(column))
        ]
    if len(column) < 2:
        raise ValueError(f"no polynomial of a degree below {len(nodes) - 1} gives the counts")
    polynomial: Any = [column[0]]
    for node, difference in zip(reversed(nodes[: len(leading)]), reversed(leading), strict=True):
        polynomial = polyadd(polymul(polynomial, [-node, 1]), [difference])  # Horner
    return list(polynomial)


def tail_polynomial(x: Sequence[int], y: Sequence[int]) -> tuple[int, list[Fraction]]:
    """Return the size from which on one polynomial gives exact counts, and `exact_polynomial`.

    Of all sizes, or of the larger ones: a factorisation of an H x D matrix has one polynomial
    where D < H and another where D > H. ValueError if the `TAIL` largest have none.
    """
    pairs = sorted(set(zip(x, y, strict=True)))
    for start in range(max(1, len(pairs) - TAIL + 1)):
        tail_x, tail_y = zip(*pairs[start:], strict=True) if pairs else ((), ())
        with suppress(ValueError):
            return tail_x[0], exact_polynomial(tail_x, tail_y)
    raise ValueError(f"no polynomial gives the counts at the {TAIL} largest sizes")


# ---- crossings ----------------------------------------------------------------------------------


def crossings(scans: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Where the first of two series costs less a row than the second, by each metric.

    Pairs of one run, of equal batches and of one rule for the width whose log_prob is of different
    degree in D, the lower one first; and all pairs that solve an ODE, and of those with dense: of
    equal degree the one with fewer FLOPs at the largest common D is first. Without a time at some
    D, since it may not be quoted, no crossing of times is known. Columns: cheaper, than, a
    `crossing` for each of the metrics, plain (whether one is cheaper at every D by every metric)
    and records (keys).
    """
    costs = {
        metric: per_row(scans, metric).groupby([scans["dim"], scans["series"]]).median().unstack()
        for metric in metrics
        if metric in scans
    }
    times = [metric for metric in costs if METRICS[metric].kind == "time"]
    series = {str(name): group for name, group in scans.groupby("series")}
    grown = {name: growth(group, "log_prob_flops") for name, group in series.items()}
    degree = {name: counted.degree for name, counted in grown.items() if counted}
    rows: list[dict[str, Any]] = []
    for pair in itertools.combinations(degree, 2):
        one, other = (series[name] for name in pair)
        gap = log_ratio(costs["log_prob_flops"], *pair)
        ranks = [rank for name in pair if (rank := degree[name]) is not None]
        ranked, comparable = len(set(ranks)) == 2, _comparable(one, other)
        if _made(one) != _made(other) or gap.empty or not (ranked or comparable):
            continue
        if ranks[0] > ranks[1] if ranked else gap.iloc[-1] > 0:
            pair = pair[::-1]
        gaps = {metric: log_ratio(cost, *pair) for metric, cost in costs.items()}
        common = _asked(one) & _asked(other)
        if not all(common <= {*gaps[metric].index} for metric in times):
            gaps |= dict.fromkeys(times, gap[:0])
        where = {metric: crossing(gap) for metric, gap in gaps.items()}
        back = [crossing(-gap) for gap in gaps.values()]
        ends = [{end for end in by if not np.isnan(end)} for by in (where.values(), back)]
        row = {"cheaper": pair[0], "than": pair[1], **where}
        row |= {
            "plain": not comparable and any(by <= {ALWAYS} for by in ends),
            RECORDS: (*one["key"], *other["key"]),
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=["cheaper", "than", *costs, "plain", RECORDS])


def crossing(gap: pd.Series) -> float:
    """Return the D from which on the first is cheaper, at all larger ones that were measured.

    ``gap`` is ln of its cost over the second's, by D; between two it is interpolated on logarithmic
    axes. `ALWAYS` if it is cheaper at every D, `NEVER` if not at the largest, NaN without any.
    """
    if gap.empty:
        return float("nan")
    if gap.iloc[-1] >= 0:
        return NEVER
    dearer = np.flatnonzero(gap >= 0)
    if not len(dearer):
        return ALWAYS
    at = dearer[-1]
    share = gap.iloc[at] / (gap.iloc[at] - gap.iloc[at + 1])
    low, high = gap.index[at : at + 2]
    return float(low * (high / low) ** share)


def log_ratio(costs: pd.DataFrame, one: str, other: str) -> pd.Series:
    """ln of the cost of one column over that of another, in the rows that have both."""
    both = costs[[one, other]].where(costs > 0).dropna()  # a flow without a product has no FLOPs
    return pd.Series(np.log(both[one] / both[other]))


def _made(rows: pd.DataFrame) -> tuple[set[Any], ...]:
    """What two series share that may be compared: the rule for the width, the batches, the run."""
    return set(width_rules(rows)), set(rows["batch"]), set(rows.get("run", ()))


def _comparable(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether both solve an ODE, or one does and the other is the flow dense."""
    solves = ["rate_flops" in s and bool(s["rate_flops"].notna().any()) for s in (one, other)]
    dense = [side["flow"].iloc[0] == "dense" for side in (one, other)]
    return all(solves) or (solves[0] and dense[1]) or (solves[1] and dense[0])


def _asked(rows: pd.DataFrame) -> set[int]:
    """The dimensions at which a series was to be timed."""
    rows = sizes.computed(rows)
    return {*(rows[rows["setting.seconds"] > 0] if "setting.seconds" in rows else rows)["dim"]}
