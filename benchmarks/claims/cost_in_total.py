"""The number of evaluations L' is a factor that does not depend on D."""

from __future__ import annotations

import pandas as pd

from benchmarks.claims import (
    NotMeasured,
    Verdict,
    done,
    keys,
    listed,
    outcome,
    register,
    scientific,
)
from benchmarks.views import totals
from benchmarks.views.nfe_growth import families, growth, told


@register(
    "cost-in-total",
    page=9,
    item=5,
    slide="FFJORD Performance: Time complexity",
    statement="The evaluations L' of f that the solver takes are a factor of their own, so that "
    "O((DH + D) L') grows with D as DH + D does.",
    criterion="Of trained fields on data of several dimensions: confirmed where the slope of ln "
    "NFE in ln D has an interval with 0 in it for every family; refuted where for none; else "
    "conditional. Totals are FLOPs of a density at the evaluations that training leads to, of "
    "flows whose width is fixed.",
    studies=("nfe", "cost"),
    exhibits=("nfe-against-dimension", "nfe-totals", "nfe-growth"),
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The slope of each family, and totals at the largest dimension."""
    rows = done(frame, "nfe", "nfe_end")
    groups = families(rows)
    slopes = {name: grown for name, g in groups.items() if (grown := growth(g, "nfe_end"))}
    if not slopes:
        raise NotMeasured("evaluations after training at three dimensions or more")
    holds = {name: low <= 0 <= high for name, (_, low, high) in slopes.items()}
    parts = []
    for whether, said in ((True, "does not depend on D"), (False, "does")):
        of = [f"{name} ({told(slopes[name])})" for name, held in holds.items() if held == whether]
        parts += [f"{said} for {listed(of)}"] if of else []
    sentence = f"After training NFE {', and '.join(parts)}{_totals(frame)}."
    return Verdict(outcome(holds.values()), sentence, keys(*groups.values()))


def _totals(frame: pd.DataFrame) -> str:
    """The least total of either kind at the largest common dimension; "" without the cost study."""
    solved, direct = ([t for t in kind if _fixed(t)] for kind in totals.series(frame))
    if not (solved and direct):
        return ""
    dims = [set.intersection(*(set(t.costs.index) for t in kind)) for kind in (solved, direct)]
    if not (common := set.intersection(*dims)):
        return ""
    dim = max(common)
    ends = [min(kind, key=lambda t: t.costs.loc[dim, "flops"]) for kind in (solved, direct)]
    one, other = (f"{scientific(t.costs.loc[dim, 'flops'])} ({t.name})" for t in ends)
    return f"; at D = {dim} a density takes {one} FLOPs at least, without an ODE {other}"


def _fixed(total: totals.Total) -> bool:
    """Whether the width of a series does not follow D."""
    return bool(total.records.get("setting.hidden_per_dim", pd.Series()).isna().all())
