"""Crossings of costs: the dimension from which on one flow is cheaper than another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import growth
from benchmarks.core.exhibit import RECORDS, per_row
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import width_rules

ALWAYS, NEVER = 0.0, float("inf")  # of all dimensions that were measured


def crossings(scans: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Where the first of two series costs less a row than the second, by each metric.

    Pairs of one run, of equal batches and of one rule for the width whose log_prob is of different
    degree in D, the lower one first; and all pairs that solve an ODE, and of those with dense: of
    equal degree the one with fewer FLOPs at the largest common D is first. Without a time at some
    D, since it may not be quoted, no crossing of times is known. Columns: cheaper, than, a
    `crossing` for each of the metrics, plain (whether one is cheaper at every D by every metric)
    and records (keys).
    """
    costs = {metric: medians(scans, metric) for metric in metrics if metric in scans}
    series = {str(name): group for name, group in scans.groupby("series")}
    grown = {name: growth(group, "log_prob_flops") for name, group in series.items()}
    degrees = {name: counted.degree for name, counted in grown.items() if counted}
    rows: list[dict[str, Any]] = []
    for pair in itertools.combinations(degrees, 2):
        one, other = (series[name] for name in pair)
        comparable = (_solves(one) and _solves(other)) or _against_dense(one, other)
        lower = _lower(*(degrees[name] for name in pair))
        gap = _gap(costs["log_prob_flops"], *pair)
        rules, others = (set(width_rules(side)) for side in (one, other))
        alike = rules == others and set(one["batch"]) == set(other["batch"])
        alike = alike and set(one.get("run", ())) == set(other.get("run", ()))
        if not alike or gap.empty or (lower is None and not comparable):
            continue
        if lower == 1 or (lower is None and gap.iloc[-1] > 0):
            pair = pair[::-1]
        gaps = {metric: _gap(cost, *pair) for metric, cost in costs.items()}
        if not _all_timed(gaps, one, other):
            gaps = {n: gap if METRICS[n].kind != "time" else gap[:0] for n, gap in gaps.items()}
        where = {metric: crossing(gap) for metric, gap in gaps.items()}
        back = [crossing(-gap) for gap in gaps.values()]
        plain = not comparable and (_throughout(where.values()) or _throughout(back))
        row = {"cheaper": pair[0], "than": pair[1], **where, "plain": plain}
        rows.append({**row, RECORDS: (*one["key"], *other["key"])})
    return pd.DataFrame(rows, columns=["cheaper", "than", *costs, "plain", RECORDS])


def crossing(gap: pd.Series) -> float:
    """The D from which on the first is cheaper, at all larger ones that were measured.

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


def medians(scans: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Medians of a row of data, a row for each D and a column for each series."""
    costs = per_row(scans, metric).groupby([scans["dim"], scans["series"]]).median()
    return costs.unstack()


def _all_timed(gaps: Mapping[str, pd.Series], one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether there are times at every D at which both were to be timed."""
    common = set.intersection(*(set(sizes.asked(side)["dim"]) for side in (one, other)))
    return all(common <= {*gap.index} for n, gap in gaps.items() if METRICS[n].kind == "time")


def _throughout(where: Any) -> bool:
    return all(np.isnan(dim) or dim == ALWAYS for dim in where)


def _gap(costs: pd.DataFrame, one: str, other: str) -> pd.Series:
    both = costs[[one, other]].where(costs > 0).dropna()  # a flow without a product has no FLOPs
    return pd.Series(np.log(both[one] / both[other]))


def _lower(one: int | None, other: int | None) -> int | None:
    """Which of two degrees is the lower, 0 or 1; None if neither is."""
    return None if one is None or other is None or one == other else int(one > other)


def _solves(group: pd.DataFrame) -> bool:
    return "rate_flops" in group and bool(group["rate_flops"].notna().any())


def _against_dense(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether one is the flow dense, and the other solves an ODE."""
    return any(_solves(a) and b["flow"].iloc[0] == "dense" for a, b in ((one, other), (other, one)))
