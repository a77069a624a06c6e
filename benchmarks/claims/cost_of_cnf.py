"""A CNF with an exact trace costs O(DH + D²) an evaluation."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis import growth, sizes
from benchmarks.analysis.degrees import FIXED, FOLLOWS, degrees
from benchmarks.claims import NotMeasured, Verdict, done, outcome, register

MISSING = "counts of exact traces against D, at a fixed width and at H = c D"
ALLOWED = 2  # degree in D, of D H + D² at a fixed width and where H = c D


@register(
    "cost-of-cnf",
    page=9,
    item=3,
    slide="FFJORD Performance: Time complexity",
    statement="CNF models with the exact trace take O(DH + D²) for each evaluation.",
    criterion="By exact FLOPs of one evaluation of field and trace: confirmed where their degree "
    f"in D is at most {ALLOWED}, at a fixed width and where H = c D, for every exact trace; "
    "refuted where for none; else conditional on how the trace is had. What a solve makes of the "
    "weights once for a batch is told beside it.",
    studies=("cost",),
    exhibits=("cost-growth", "cost-against-dimension"),
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The degree at a fixed width and where H follows D, for each exact trace and depth."""
    rows = done(frame, "cost", "rate_flops")
    scans = sizes.scans(rows)
    found = degrees(scans, "rate_flops")
    found = found[~found["Stochastic"].astype(bool)]
    if found.empty:
        raise NotMeasured(MISSING)
    layers = [f" of {d:g} hidden layers" if pd.notna(d) else "" for d in found["Depth"]]
    named = found.assign(Name=found["Flow"] + layers + " by " + found["Trace"])
    table = named.pivot_table("Degree", "Name", "Width", aggfunc="max")
    table = table.dropna() if {FIXED, FOLLOWS} <= set(table) else table[:0]
    if table.empty:
        raise NotMeasured(MISSING)
    holds = table.max(axis=1) <= ALLOWED
    told = [
        f"{row[FIXED]:g} and {row[FOLLOWS]:g} for {name}"
        for name, row in zip(table.index, table.to_dict("records"), strict=True)
    ]
    once = degrees(scans, growth.ONCE).groupby("Width")["Degree"].max()
    paid = (
        f", and {once[FIXED]} and {once[FOLLOWS]} of what is made of the weights once"
        if set(once.index) == {FIXED, FOLLOWS}
        else ""
    )
    sentence = (
        "The FLOPs of an evaluation are of degree, at a fixed width and where H follows D, "
        f"{', '.join(told)}{paid}; the formula has {ALLOWED} and {ALLOWED}."
    )
    return Verdict(outcome(holds), sentence, tuple(k for part in found["Records"] for k in part))
