"""Where one flow becomes cheaper than another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import growth
from benchmarks.core.exhibit import RECORDS, Table
from benchmarks.core.series import RULES

FEW = 10  # pairs that are all shown, however plain


def crossings(done: pd.DataFrame, calls: Mapping[str, str]) -> Table:
    """A row for each pair that can cross: from which D on the first is cheaper."""
    columns = {
        f"{title}: {unit}": per_sample(done, f"{call}_{metric}")
        for call, title in calls.items()
        for metric, unit in (("flops", "FLOPs"), ("seconds", "seconds"))
        if f"{call}_{metric}" in done
    }
    series = {str(name): group for name, group in done.groupby("series")}
    grown = {name: growth.flops(group, "log_prob") for name, group in series.items()}
    degrees = {name: counted.degree for name, counted in grown.items() if counted}
    rows: list[dict[str, Any]] = []
    trivial: list[dict[str, Any]] = []
    for pair in itertools.combinations(degrees, 2):
        one, other = (series[name] for name in pair)
        asked = (_solves(one) and _solves(other)) or _against_dense(one, other)
        lower = _lower(*(degrees[name] for name in pair))
        gap = _gap(columns["log_prob: FLOPs"], *pair)
        alike = _width(one) == _width(other) and set(one["batch"]) == set(other["batch"])
        if not alike or gap.empty or (lower is None and not asked):
            continue
        if lower == 1 or (lower is None and gap.iloc[-1] > 0):
            pair = pair[::-1]
        gaps = {header: _gap(costs, *pair) for header, costs in columns.items()}
        told = {header: crossing(gap) for header, gap in gaps.items()}
        back = {crossing(-gap) for gap in gaps.values()}
        plain = not asked and any(side <= {"all", "–"} for side in (set(told.values()), back))
        keys = {RECORDS: (*one["key"], *other["key"])}
        (trivial if plain else rows).append({"Cheaper": pair[0], "than": pair[1], **told, **keys})
    if len(rows) + len(trivial) <= FEW:
        rows, trivial = rows + trivial, []
    note = (
        "The dimension from which on the first costs less per sample than the second, at all "
        "larger ones that were measured; interpolated between two of them on logarithmic axes. "
        "Pairs of equal batches and of one rule for the width whose log_prob is of different "
        "degree in D, the lower one first; and all pairs of flows that solve an ODE, and of those "
        "with dense: of equal degree the one with fewer FLOPs at the largest common D is first. "
        "Flows that solve an ODE take the evaluations (NFE) that the table by dimension says; "
        "trained fields may take more. Pairs left out because one is cheaper at every D in every "
        f"column: {len(trivial)}."
    )
    return Table(
        "cost-crossings",
        "Where one becomes cheaper than another",
        note,
        pd.DataFrame(rows),
    )


def crossing(gap: pd.Series) -> str:
    """From which D on the first is cheaper: "all", "D ≥ 37", or "none in range".

    ``gap`` is ln of its cost over the second's, by D.
    """
    if gap.empty:
        return "–"
    if gap.iloc[-1] >= 0:
        return "none in range"
    dearer = np.flatnonzero(gap >= 0)
    if not len(dearer):
        return "all"
    at = dearer[-1]
    share = gap.iloc[at] / (gap.iloc[at] - gap.iloc[at + 1])
    low, high = gap.index[at : at + 2]
    return f"D ≥ {low * (high / low) ** share:.0f}"


def per_sample(done: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Medians per sample, a row for each D and a column for each series."""
    costs = (done[metric] / done["batch"]).groupby([done["dim"], done["series"]]).median()
    return costs.unstack()


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


def _width(group: pd.DataFrame) -> str:
    """What decides the width in place of a number, if anything does."""
    return repr([group[rule].iloc[0] for rule in RULES if rule in group])
