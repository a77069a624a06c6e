"""Continuous flows are faster than others."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from benchmarks.analysis.contests import kinds, reached, seconds_to, trained
from benchmarks.claims import NotMeasured, Verdict, done, keys, listed, outcome, register, span
from benchmarks.claims.examples import densities
from benchmarks.core.naming import counted
from benchmarks.core.series import series

CALLS = {
    "density": "per_1000_seconds",
    "sample": "sampling_seconds",
    "training step": "update_seconds",
}


def example(factor: float) -> pd.DataFrame:
    """Densities of a continuous flow that take so many times the seconds of a discrete one."""
    return densities(
        {"cnf": 0.0, "glow": 0.0},
        per_1000_seconds=lambda row: factor if row["flow"] == "cnf" else 1.0,
        sample_rate=lambda row: 1 / factor if row["flow"] == "cnf" else 1.0,
        train_seconds=lambda row: factor if row["flow"] == "cnf" else 1.0,
        train_updates=500.0,
        arrays={"validation_ll": np.array([-2.0, -1.0]), "validation_seconds": np.array([0, 1.0])},
    )


@register(
    "continuous-faster",
    page=11,
    item=2,
    slide="Summary",
    statement="Continuous flows are faster than normalizing flows without an ODE.",
    criterion="By seconds of a density, a sample and a training update, the fastest continuous "
    "flow is compared with the fastest discrete one on each data set, as the suite builds "
    "them: confirmed if the continuous flow is faster in all comparisons; refuted if in "
    "none; else conditional. Also given: which flow is the first in training to reach the "
    "likelihood that both reach, by the study time_to_nll on its data sets, else by the "
    "learning curves of the study density.",
    studies=("density", "time_to_nll"),
    suite="densities",
    exhibits=("density", "time-to-nll"),
    examples=[
        ("confirmed", partial(example, 0.1)),
        ("refuted", partial(example, 10.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """Ratios of seconds on each data set, and races to the likelihood that both reach."""
    rows = done(
        frame,
        "density",
        "test_ll",
        "per_1000_seconds",
        "sample_rate",
        "train_seconds",
        "train_updates",
    )
    races = frame[(frame["study"] == "time_to_nll") & (frame["status"] == "done")]
    rows = trained(rows)
    rows = rows[rows["arrays"].notna() & (rows["updates"] > 0)]
    rows = rows.assign(
        sampling_seconds=1 / rows["sample_rate"],
        update_seconds=rows["train_seconds"] / rows["train_updates"],
    )
    ratios: list[pd.Series] = []
    first_sets, used = [], []
    for name, group in rows.groupby("dataset"):
        sides = _sides(group)
        if any(side.empty for side in sides):
            continue
        ours, theirs = (side.groupby("series")[[*CALLS.values()]].mean().min() for side in sides)
        ratios.append(ours / theirs)
        raced = _sides(races[races["dataset"] == name])
        racing = sides if any(side.empty for side in raced) else raced
        level = min(map(reached, racing))
        first, second = (seconds_to(side, level) for side in racing)
        first_sets += [str(name)] if first < second else []
        used += [*sides, *racing]
    if not ratios:
        raise NotMeasured("densities of continuous and of discrete flows on one data set")
    table = pd.DataFrame(ratios)
    parts = [f"{span(table[metric], '.2g')} times for a {call}" for call, metric in CALLS.items()]
    race = f"on {listed(first_sets)} alone" if first_sets else "on none"
    sentence = (
        f"On {counted(len(table), 'data set')} the quickest continuous flow takes, of the seconds "
        f"of the quickest discrete one, {', '.join(parts)}; to the likelihood that both reach in "
        f"training the continuous ones are first {race}."
    )
    return Verdict(outcome((table < 1).to_numpy().ravel()), sentence, keys(*used))


def _sides(group: pd.DataFrame) -> list[pd.DataFrame]:
    """Continuous and discrete flows of one data set, with their series."""
    kind = kinds(group)
    group = group.assign(series=series(group))
    return [group[kind == wanted] for wanted in ("continuous", "discrete")]
