"""Continuous flows are faster than others."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.claims import NotMeasured, Verdict, keys, listed, outcome, register, span
from benchmarks.claims.races import TRAINING, either, ratios, timed, timed_example
from benchmarks.core.naming import counted


def example(factor: float) -> pd.DataFrame:
    """Densities of a continuous flow that take so many times the seconds of a discrete one."""
    return timed_example({"cnf": factor, "glow": 1.0})


@register(
    "continuous-faster",
    page=11,
    item=2,
    slide="Summary",
    statement="Continuous flows are faster than normalizing flows without an ODE.",
    studies=("frontier",),
    also=("density",),
    suite="frontier",
    exhibits=("frontier", "density"),
    examples=[
        ("confirmed", partial(example, 0.1)),
        ("refuted", partial(example, 10.0)),
    ],
    prepare=timed,
)
def judge(rows: pd.DataFrame) -> Verdict:
    """Ratios of seconds on each data set, and races to the likelihood that both reach."""
    table: dict[str, dict[str, float]] = {}
    used: list[pd.DataFrame] = []
    for name, group in rows.groupby("dataset"):
        if contest := either(group, "kind", ("continuous", "discrete")):
            table[str(name)] = ratios(*contest)
            used += [*contest[0], *contest[1]]
    known = pd.DataFrame(table).T
    if TRAINING not in known:
        raise NotMeasured(
            "timed densities of continuous and of discrete flows on one data set, with seconds of "
            "their trainings"
        )
    parts = [f"{span(known[call].dropna())} times for a {call}" for call in known]
    quickest = known.index[known[TRAINING] < 1]
    sentence = (
        f"On {counted(len(known), 'data set')} the quickest continuous flow takes, of the seconds "
        f"of the quickest discrete one, {', '.join(parts)}; in training the continuous ones are "
        f"first on {listed(quickest) if len(quickest) else 'none'}."
    )
    every = [ratio for own in table.values() for ratio in own.values()]
    return Verdict(outcome(ratio < 1 for ratio in every), sentence, keys(*used))
