"""A CNF with an exact trace costs O(DH + D²) an evaluation."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import FIXED, FOLLOWS, ONCE, degrees
from benchmarks.claims import NotMeasured, Verdict, done, keys, outcome, register
from benchmarks.claims.examples import made_up

MISSING = "counts of exact traces against D, at a fixed width and at H = c D"
ALLOWED = 2  # degree in D, of D H + D² at a fixed width and where H = c D


def example(degree: int) -> pd.DataFrame:
    """FLOPs of an evaluation with an exact trace that grow with D to this power."""
    common = {
        "dim": [2, 3, 5, 8, 12, 16, 24, 32, 48, 64],
        "option.trace": {"estimator": "closed_form"},
        "option.depth": 2,
        "rate_flops": lambda row: float(row["batch"] * row["dim"] ** degree),
    }
    follows = {"option.hidden": lambda row: row["dim"], "setting.hidden_per_dim": 1.0}
    return made_up("cost", {"option.hidden": 64, **common}, {**follows, **common})


@register(
    "cost-of-cnf",
    page=9,
    item=3,
    slide="FFJORD Performance: Time complexity",
    statement="A CNF with the exact trace takes O(DH + D²) for each evaluation.",
    criterion="By exact FLOPs of one evaluation of field and trace: confirmed if their degree in "
    f"D is at most {ALLOWED}, at a fixed width and at H = c D, for every exact trace; refuted "
    "if for none; else conditional on the method of the trace. Products of weights that a "
    "solve computes once for a batch are given separately.",
    studies=("cost",),
    suite="complexity",
    exhibits=("cost-growth", "cost-against-dimension"),
    examples=[
        ("confirmed", partial(example, 2)),
        ("refuted", partial(example, 3)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The degree at a fixed width and where H follows D, for each exact trace and depth."""
    rows = done(frame, "cost", "rate_flops")
    scans = sizes.scans(rows)
    exact = degrees(scans, "rate_flops")
    exact = exact[~exact["stochastic"].astype(bool)]
    if exact.empty:
        raise NotMeasured(MISSING)
    layers = [f" of {d:g} hidden layers" if pd.notna(d) else "" for d in exact["depth"]]
    exact = exact.assign(name=exact["flow"] + layers + " by " + exact["trace"].fillna("its own"))
    by_width = exact.pivot_table("degree", "name", "width", aggfunc="max")
    by_width = by_width.dropna() if {FIXED, FOLLOWS} <= set(by_width) else by_width[:0]
    if by_width.empty:
        raise NotMeasured(MISSING)
    parts = [
        f"{row[FIXED]:g} and {row[FOLLOWS]:g} for {name}"
        for name, row in zip(by_width.index, by_width.to_dict("records"), strict=True)
    ]
    once = degrees(scans, ONCE).groupby("width")["degree"].max()
    paid = (
        f", and {once[FIXED]} and {once[FOLLOWS]} for the products of weights that are computed "
        "once"
        if set(once.index) == {FIXED, FOLLOWS}
        else ""
    )
    sentence = (
        "The FLOPs of an evaluation are of degree, at a fixed width and at H = c D, "
        f"{', '.join(parts)}{paid}; the formula has {ALLOWED} and {ALLOWED}."
    )
    return Verdict(outcome(by_width.max(axis=1) <= ALLOWED), sentence, keys(exact))
