"""FFJORD is one of the fastest models that use a CNF."""

from __future__ import annotations

from functools import partial
from itertools import product

import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.crossings import medians
from benchmarks.claims import NotMeasured, Verdict, done, keys, outcome, register, span
from benchmarks.claims.examples import made_up
from benchmarks.core.series import RULES

CALLS = ("log_prob_seconds", "step_seconds")
ALIKE = ["option.depth", "option.layers", "setting.hidden_per_dim", "setting.parameters"]


def example(factor: float) -> pd.DataFrame:
    """FFJORD and another field of its size, whose seconds it takes so many times."""
    common = {"dim": [4, 8, 16], "option.hidden": 64, "option.depth": 2, "rate_flops": 1.0}
    seconds = {"log_prob_seconds": factor, "step_seconds": factor}
    return made_up(
        "cost",
        {**common, "flow": "ffjord", **seconds},
        {**common, "flow": "cnf", "log_prob_seconds": 1.0, "step_seconds": 1.0},
    )


@register(
    "ffjord-fastest",
    page=11,
    item=4,
    slide="Summary",
    statement="FFJORD is one of the fastest models that use a CNF.",
    criterion="By seconds of log_prob and of a training step at equal width, depth and NFE: "
    "confirmed if FFJORD is faster than every other continuous flow at every D; refuted if "
    "it is slower than each of them at every D; else conditional on the other flow.",
    studies=("cost",),
    suite="complexity",
    exhibits=("cost-against-dimension", "cost-crossings"),
    examples=[
        ("confirmed", partial(example, 0.5)),
        ("refuted", partial(example, 2.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """FFJORD's seconds over those of each other field of its size, at each D."""
    rows = done(frame, "cost", "rate_flops", *CALLS)
    scans = sizes.scans(sizes.timed(rows))
    first = scans.drop_duplicates("series").set_index("series")
    alike = first[[c for c in (*ALIKE, *RULES) if c in first]].map(repr).agg("".join, axis=1)
    ours = first.index[first["flow"] == "ffjord"]
    pairs = [(a, b) for a, b in product(ours, first.index) if a != b and alike[a] == alike[b]]
    ratios: dict[str, pd.Series] = {}
    for a, b in pairs:
        costs = (medians(scans, call) for call in CALLS)
        ratios[b] = pd.concat([(cost[a] / cost[b]).dropna() for cost in costs])
    ratios = {name: values for name, values in ratios.items() if len(values)}
    if not ratios:
        raise NotMeasured("seconds of ffjord beside another continuous flow of its size")
    parts = [f"{span(values, '.2g')} beside {name}" for name, values in ratios.items()]
    sentence = (
        f"At D = {span(scans['dim'], 'g')} FFJORD takes, of the other's seconds of log_prob and "
        f"training step, {', '.join(parts)}."
    )
    used = scans[scans["series"].isin({name for pair in pairs for name in pair})]
    return Verdict(outcome(pd.concat(ratios.values()) < 1), sentence, keys(used))
