"""A CNF with an exact trace costs O(DH + D²) an evaluation."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria, sizes
from benchmarks.analysis.growth import FIXED, FOLLOWS, ONCE, degrees
from benchmarks.claims import NotMeasured, Verdict, done, keys, outcome, register
from benchmarks.claims.examples import made_up
from benchmarks.claims.readings import readings

MISSING = "counts of exact traces against D, at a fixed width and at H = c D"
DEGREES = criteria.of("cost-of-cnf")["degrees"]  # of D H + D²


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
    judged = exact[exact["name"].isin(by_width.index)]
    holds, text = readings(judged, DEGREES)
    sentence = (
        "The FLOPs of an evaluation are of degree, at a fixed width and at H = c D, "
        f"{', '.join(parts)}{paid}; the formula has {DEGREES['fixed']} and {DEGREES['follows']}: "
        f"{text}."
    )
    return Verdict(outcome(holds), sentence, keys(judged))
