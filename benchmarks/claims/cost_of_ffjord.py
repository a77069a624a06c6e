"""FFJORD costs O(DH + D) an evaluation."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import FIXED, FOLLOWS, degrees
from benchmarks.claims import NotMeasured, Verdict, done, keys, outcome, register, span
from benchmarks.claims.examples import made_up

TWICE = 2.01  # what a trace as dear as f makes of f, and a hundredth
ALLOWED = {FIXED: 1, FOLLOWS: 2}  # degree in D, of D H + D


def example(share: float) -> pd.DataFrame:
    """FLOPs of an evaluation of FFJORD whose trace takes this share of those of f, D H."""
    common = {
        "flow": "ffjord",
        "dim": [2, 3, 5, 8, 12, 16, 24, 32, 48, 64],
        "option.trace": {"estimator": "hutchinson"},
        "option.depth": 2,
        "field_flops": lambda row: float(row["batch"] * row["dim"] * row["option.hidden"]),
        "rate_flops": lambda row: (1 + share) * row["batch"] * row["dim"] * row["option.hidden"],
    }
    follows = {"option.hidden": lambda row: row["dim"], "setting.hidden_per_dim": 1.0}
    return made_up("cost", {"option.hidden": 64, **common}, {**follows, **common})


@register(
    "cost-of-ffjord",
    page=9,
    item=4,
    slide="FFJORD Performance: Time complexity",
    statement="FFJORD takes O(DH + D) for each evaluation: its trace costs no more than f.",
    criterion="By exact FLOPs of one evaluation of field and estimated trace: confirmed if their "
    "degree in D is at most 1 at a fixed width and 2 at H = c D, and field and trace "
    f"together take at most {TWICE:g} times the FLOPs of f, for every such series; refuted if "
    "for none; else conditional.",
    studies=("cost",),
    suite="complexity",
    exhibits=("cost-growth", "cost-against-dimension"),
    examples=[
        ("confirmed", partial(example, 1)),
        ("refuted", partial(example, 9)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Degrees of FFJORD, and its evaluation over that of the field alone."""
    rows = done(frame, "cost", "rate_flops", "field_flops")
    scans = sizes.scans(rows[rows["flow"] == "ffjord"])
    of_dim = degrees(scans, "rate_flops")
    of_dim = of_dim[of_dim["stochastic"].astype(bool)].sort_values("degree")
    if set(of_dim["width"]) != set(ALLOWED):
        raise NotMeasured("counts of FFJORD against D, at a fixed width and at H = c D")
    parts = [
        f"{degree} ({name})"
        for degree, name in zip(of_dim["degree"], of_dim["series"], strict=True)
    ]
    used = scans[scans["series"].isin(of_dim["series"])]
    ratio = used["rate_flops"] / used["field_flops"]
    sentence = (
        f"The FLOPs of an evaluation are of degree {' and '.join(parts)}, and "
        f"{span(ratio, '.2f')} times those of f alone at D = {span(used['dim'], 'g')}."
    )
    most = ratio.groupby(used["series"]).max()
    holds = (of_dim["degree"] <= of_dim["width"].map(ALLOWED)) & (
        of_dim["series"].map(most) <= TWICE
    )
    return Verdict(outcome(holds), sentence, keys(of_dim))
