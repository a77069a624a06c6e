"""Normalizing flows cost O((DH + D³) L)."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria, sizes
from benchmarks.analysis.growth import FIXED, degrees, growth
from benchmarks.claims import NotMeasured, Verdict, done, keys, listed, outcome, register
from benchmarks.claims.examples import made_up
from benchmarks.claims.readings import readings

DEGREES = criteria.of("cost-of-flows")["degrees"]  # of D H + D³


def example(degree: int) -> pd.DataFrame:
    """FLOPs of log_prob of two discrete flows that grow with D to this power."""
    counts = {
        "flow": ["dense", "glow"],
        "dim": [2, 3, 5, 8, 12, 16, 24, 32, 48, 64],
        "option.hidden": 64,
        "log_prob_nfe": 0.0,
        "log_prob_flops": lambda row: float(row["batch"] * row["dim"] ** degree),
    }
    return made_up("cost", counts)


@register(
    "cost-of-flows",
    page=9,
    item=2,
    slide="FFJORD Performance: Time complexity",
    statement="Normalizing flows of L transformations take O((DH + D³) L) for a density.",
    studies=("cost",),
    suite="complexity",
    exhibits=("cost-growth", "cost-against-dimension"),
    examples=[
        ("confirmed", partial(example, 3)),
        ("refuted", partial(example, 4)),
        ("conditional", partial(example, 1)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Degrees in D of the flows without an ODE; whether determinants are taken once a batch."""
    rows = done(frame, "cost", "log_prob_flops")
    rows = rows[rows["log_prob_nfe"] == 0] if "log_prob_nfe" in rows else rows[:0]
    of_dim = degrees(sizes.scans(rows), "log_prob_flops")
    if "dense" not in set(of_dim.loc[of_dim["width"] == FIXED, "flow"]):
        raise NotMeasured("counts of discrete flows, dense among them, at enough dimensions")
    groups = of_dim.groupby("degree", sort=True)["series"].agg(listed)
    parts = [f"{degree} for {series}" for degree, series in reversed(list(groups.items()))]
    once = [
        name
        for name, group in sizes.lines(rows).get("batch", {}).items()
        if (grown := growth(group, "log_prob_determinant_flops", "batch")) and grown.degree == 0
    ]
    paid = f"; {listed(once)} computes its determinant once for a batch" if once else ""
    holds, text = readings(of_dim, DEGREES)
    sentence = f"log_prob's FLOPs are of degree {'; '.join(parts)}{paid}: {text}."
    return Verdict(outcome(holds), sentence, keys(of_dim))
