"""An evaluation of f costs O(DH)."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria, sizes
from benchmarks.analysis.growth import FIXED, FOLLOWS, degrees, growth
from benchmarks.claims import NotMeasured, Verdict, done, keys, outcome, register
from benchmarks.claims.examples import made_up

HIDDEN = "option.hidden"
DEGREES = criteria.of("cost-of-f")["degrees"]
DIMS = [2, 3, 5, 8, 12, 16, 24, 32, 48, 64]  # of examples


def example(power: int) -> pd.DataFrame:
    """FLOPs of a field that grow as D H to this power, at a fixed width, at H = D, and with H."""
    counts = {
        "option.depth": 2,
        "field_flops": lambda row: row["batch"] * (row["dim"] * row[HIDDEN]) ** power,
    }
    follows = {HIDDEN: lambda row: row["dim"], "setting.hidden_per_dim": 1.0}
    return made_up(
        "cost",
        {"dim": DIMS, HIDDEN: 64, **counts},
        {"dim": DIMS, **follows, **counts},
        {"dim": 8, HIDDEN: DIMS, **counts},
    )


@register(
    "cost-of-f",
    page=9,
    item=1,
    slide="FFJORD Performance: Time complexity",
    statement="An evaluation of f takes O(DH).",
    studies=("cost",),
    suite="complexity",
    exhibits=("cost-growth", "cost-axes"),
    examples=[
        ("confirmed", partial(example, 1)),
        ("refuted", partial(example, 2)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Degrees in D by what decides the width, and in H."""
    rows = done(frame, "cost", "field_flops")
    of_dim = degrees(sizes.scans(rows), "field_flops")
    along = sizes.lines(rows).get(HIDDEN, {})
    of_hidden = [growth(group, "field_flops", HIDDEN) for group in along.values()]
    highest = max((g.degree for g in of_hidden if g and g.degree is not None), default=None)
    in_dim = {w: of_dim.loc[of_dim["width"] == w, "degree"].max() for w in (FIXED, FOLLOWS)}
    if highest is None or pd.isna(list(in_dim.values())).any():
        raise NotMeasured("counts of f against D, at a fixed width and at H = c D, and against H")
    depth = max(group["option.depth"].iloc[0] for group in along.values())
    sentence = (
        f"Its FLOPs are of degree {in_dim[FIXED]:g} in D at a fixed width, {in_dim[FOLLOWS]:g} "
        f"where H follows D, and {highest} in H, with {depth:g} hidden layers; O(DH) has "
        f"{', '.join(map(str, DEGREES.values()))}."
    )
    pairs = list(zip([in_dim[FIXED], in_dim[FOLLOWS], highest], DEGREES.values(), strict=True))
    holds = [degree <= formula for degree, formula in pairs]
    holds += [degree == formula for degree, formula in pairs]
    used = keys(of_dim, *along.values())
    return Verdict(outcome(holds), sentence, keys(rows[rows["key"].isin(used)]))
