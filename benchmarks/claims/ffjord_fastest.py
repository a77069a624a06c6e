"""FFJORD is one of the fastest models that use a CNF."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import pandas as pd

from benchmarks.claims import NotMeasured, Verdict, keys, outcome, register, span
from benchmarks.claims.races import TRAINING, either, ratios, timed, timed_example


def example(factor: float) -> pd.DataFrame:
    """FFJORD and two other continuous flows, whose seconds it takes so many times."""
    return timed_example({"ffjord": factor, "cnf": 1.0, "rnode": 1.0})


@register(
    "ffjord-fastest",
    page=11,
    item=4,
    slide="Summary",
    statement="FFJORD is one of the fastest models that use a CNF.",
    studies=("frontier",),
    also=("density",),
    suite="frontier",
    exhibits=("frontier", "density"),
    examples=[
        ("confirmed", partial(example, 0.5)),
        ("refuted", partial(example, 2.0)),
    ],
    prepare=timed,
)
def judge(rows: pd.DataFrame) -> Verdict:
    """FFJORD's seconds over those of each other continuous flow, on each data set."""
    rows = rows[rows["kind"] == "continuous"]
    table: dict[str, list[dict[str, float]]] = defaultdict(list)
    used: list[pd.DataFrame] = []
    for _, group in rows.groupby("dataset"):
        for flow in sorted(set(group["flow"]) - {"ffjord"}):
            contest = either(group, "flow", ("ffjord", flow))
            known = ratios(*contest) if contest else {}
            if contest and TRAINING in known:
                table[flow].append(known)
                used += [*contest[0], *contest[1]]
    every = [ratio for sets in table.values() for known in sets for ratio in known.values()]
    if not every:
        raise NotMeasured(
            "timed densities of ffjord and of another continuous flow on one data set, with "
            "seconds of their trainings"
        )
    parts = []
    for flow, sets in sorted(table.items()):
        ends = span((ratio for known in sets for ratio in known.values()), ".2g")
        parts.append(
            f"{ends} beside {flow} ({span((s[TRAINING] for s in sets), '.2g')} in training)"
        )
    sentence = (
        "FFJORD takes, of the other's seconds of a density, of a sample and of the training to the "
        f"likelihood that both reach, {', '.join(parts)}."
    )
    return Verdict(outcome(ratio < 1 for ratio in every), sentence, keys(*used))
