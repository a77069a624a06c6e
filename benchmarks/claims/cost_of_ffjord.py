"""FFJORD costs O(DH + D) an evaluation."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria, sizes
from benchmarks.analysis.growth import FIXED, FOLLOWS, degrees
from benchmarks.claims import NotMeasured, Verdict, done, keys, outcome, register, span
from benchmarks.claims.examples import made_up
from benchmarks.claims.readings import readings

CRITERION = criteria.of("cost-of-ffjord")


def example(share: float, power: int = 1, timed: bool = True) -> pd.DataFrame:
    """Costs of an evaluation of FFJORD whose trace takes this share of those of f, (D H)^power."""
    common = {
        "flow": "ffjord",
        "dim": [2, 3, 5, 8, 12, 16, 24, 32, 48, 64],
        "option.trace": {"estimator": "hutchinson"},
        "option.depth": 2,
        "field_flops": lambda row: row["batch"] * float(row["dim"] * row["option.hidden"]) ** power,
        "rate_flops": lambda row: (1 + share) * row["field_flops"],
        **({"field_seconds": 1.0, "rate_seconds": 1.0 + share} if timed else {}),
    }
    follows = {"option.hidden": lambda row: row["dim"], "setting.hidden_per_dim": 1.0}
    return made_up("cost", {"option.hidden": 64, **common}, {**follows, **common})


@register(
    "cost-of-ffjord",
    page=9,
    item=4,
    slide="FFJORD Performance: Time complexity",
    statement="FFJORD takes O(DH + D) for each evaluation: its trace costs no more than f.",
    studies=("cost",),
    suite="complexity",
    exhibits=("cost-growth", "cost-against-dimension"),
    examples=[
        ("confirmed", partial(example, 1)),
        ("refuted", partial(example, 9, power=2)),
        ("conditional", partial(example, 9)),
        ("undecided", partial(example, 1, timed=False)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Degrees of FFJORD, and its evaluation over that of the field alone."""
    rows = done(frame, "cost", "rate_flops", "field_flops")
    scans = sizes.scans(rows[rows["flow"] == "ffjord"])
    of_dim = degrees(scans, "rate_flops")
    of_dim = of_dim[of_dim["stochastic"].astype(bool)].sort_values("degree")
    if set(of_dim["width"]) != {FIXED, FOLLOWS}:
        raise NotMeasured("counts of FFJORD against D, at a fixed width and at H = c D")
    parts = [
        f"{degree} ({name})"
        for degree, name in zip(of_dim["degree"], of_dim["series"], strict=True)
    ]
    used = scans[scans["series"].isin(of_dim["series"])]
    prices = {unit: _over_field(used, unit) for unit in ("flops", "seconds")}
    prices = {unit: price for unit, price in prices.items() if len(price)}
    times = ""
    if "seconds" in prices:
        dims = prices["seconds"].index.get_level_values("dim").to_series()
        times = f"{span(prices['seconds'], '.2f')} times its seconds at D = {span(dims, 'g')}"
    holds, text = readings(of_dim, CRITERION["degrees"])
    sentence = (
        f"The FLOPs of an evaluation are of degree {' and '.join(parts)}: {text}. It takes "
        f"{span(prices['flops'], '.2f')} times the FLOPs of f alone at D = {span(used['dim'], 'g')}"
        f", and {times or 'its seconds are not measured'}."
    )
    for price in prices.values():
        holds += (price.groupby("series").max() <= CRITERION["twice"]).tolist()
    verdict = outcome(holds)
    if verdict == "confirmed" and not times:
        verdict = "undecided"
    return Verdict(verdict, sentence, keys(of_dim))


def _over_field(used: pd.DataFrame, unit: str) -> pd.Series:
    """Cost of field and trace over that of the field alone, by series and D."""
    names = [f"rate_{unit}", f"field_{unit}"]
    if not set(names) <= set(used):
        return pd.Series(dtype=float)
    costs = used.groupby(["series", "dim"])[names].median()
    return (costs[names[0]] / costs[names[1]]).dropna()
