"""An evaluation of f costs O(DH)."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis import growth, sizes
from benchmarks.analysis.degrees import FIXED, FOLLOWS, degrees
from benchmarks.claims import NotMeasured, Verdict, done, keys, outcome, register
from benchmarks.studies.cost import axes

HIDDEN = "option.hidden"


@register(
    "cost-of-f",
    page=9,
    item=1,
    slide="FFJORD Performance: Time complexity",
    statement="An evaluation of f takes O(DH).",
    criterion="By exact FLOPs of one evaluation of every measured field: confirmed where their "
    "degree is 1 in D at a fixed width, 2 where H = c D, and 1 in H at a fixed D; refuted where "
    "none of the three holds; else conditional.",
    studies=("cost",),
    exhibits=("cost-growth", "cost-axes"),
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Degrees in D by what decides the width, and in H."""
    rows = done(frame, "cost", "field_flops")
    found = degrees(sizes.scans(rows), "field_flops")
    along = axes.lines(rows).get(HIDDEN, {})
    in_h = {name: growth.counts(group, "field_flops", HIDDEN) for name, group in along.items()}
    highest = max((c.degree for c in in_h.values() if c and c.degree is not None), default=None)
    in_d = {w: found.loc[found["Width"] == w, "Degree"].max() for w in (FIXED, FOLLOWS)}
    if highest is None or pd.isna(list(in_d.values())).any():
        raise NotMeasured("counts of f against D, at a fixed width and at H = c D, and against H")
    depth = max(group["option.depth"].iloc[0] for group in along.values())
    sentence = (
        f"Its FLOPs are of degree {in_d[FIXED]:g} in D at a fixed width, {in_d[FOLLOWS]:g} where H "
        f"follows D, and {highest} in H, with {depth:g} hidden layers; O(DH) has 1, 2 and 1."
    )
    holds = [in_d[FIXED] == 1, in_d[FOLLOWS] == 2, highest == 1]
    return Verdict(outcome(holds), sentence, keys(rows[rows["key"].isin(_used(found, along))]))


def _used(found: pd.DataFrame, along: axes.Along) -> set[str]:
    return {k for ks in found["Records"] for k in ks} | {
        k for g in along.values() for k in g["key"]
    }
