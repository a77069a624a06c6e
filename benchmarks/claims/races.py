"""Claims on speed: trained flows raced by densities, by samples, by training to a fit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.analysis.contests import at_equal_budget, efforts_to, kinds, reached
from benchmarks.claims import NotMeasured, Verdict, keys, listed, outcome, register, span
from benchmarks.claims.densities import scored
from benchmarks.core.naming import counted, named

CALLS = {"density": "density_seconds", "sample": "sampling_seconds"}
CPU = ("per_1000_cpu_seconds", "sample_cpu_rate")  # of records now
CLOCK = ("per_1000_seconds", "sample_rate")  # of older ones
TRAINING = "training to the likelihood that both reach"


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """Trained flows whose densities and samples were timed, with kind and series.

    Times are CPU seconds where there are such, else the seconds of older records.
    """
    metrics = CPU if frame.reindex(columns=[*CPU]).notna().any(axis=None) else CLOCK
    rows = scored(frame, *metrics)
    rows = rows[rows["arrays"].notna() & (rows["updates"] > 0)]
    density, rate = (rows[name] for name in metrics)
    columns = {"density_seconds": density, "sampling_seconds": 1 / rate, "kind": kinds(rows)}
    rows = pd.concat([rows, pd.DataFrame(columns)], axis=1)
    parts = [named(group) for _, group in rows.groupby("dataset")]
    return pd.concat(parts) if parts else rows.assign(series=[])


def either(rows: pd.DataFrame, column: str, names: Sequence[str]) -> list[list[pd.DataFrame]]:
    """Both sides on a data set, by values of a column, and the trainings that race.

    Calls are those of the largest common budget; trainings race at any budget. Empty where a side
    has no timed flow.
    """
    racing = [rows[rows[column] == name] for name in names]
    sides = at_equal_budget(*racing)
    return [] if any(side.empty for side in sides) else [sides, racing]


def ratios(sides: Sequence[pd.DataFrame], racing: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Cost of the fastest series of one side over that of the other, without what is not known.

    ``sides`` are the timed flows of both, ``racing`` their trainings; all are of one data set.
    """
    costs = [side.groupby("series")[[*CALLS.values()]].mean().min() for side in sides]
    values = {call: float(costs[0][c] / costs[1][c]) for call, c in CALLS.items()}
    first, second = efforts_to(racing, min(map(reached, racing)))
    started = min(first, second) > 0  # or one begins at the level, and there is no race
    values[TRAINING] = first / second if started else np.nan
    return {call: value for call, value in values.items() if value == value}


@register("continuous-faster", prepare=timed)
def continuous_faster(rows: pd.DataFrame) -> Verdict:
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


@register("ffjord-fastest", prepare=timed)
def ffjord_fastest(rows: pd.DataFrame) -> Verdict:
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
