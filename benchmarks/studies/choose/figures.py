"""The chooser's figure: test likelihoods with intervals, and the way there."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.criteria import LEVEL
from benchmarks.core.exhibit import Figure
from benchmarks.core.store import arrays
from benchmarks.plotting import draw
from benchmarks.studies.choose.ranking import Choice, choices

NOTE = (
    f"Left: test log-likelihood with its {1 - LEVEL:.0%} interval over the test rows, the best by "
    "validation on top; dotted: baselines. Right: validation log-likelihood of the trainings "
    "against the seconds of updates; the rate falls in the last fifth. What lies far below "
    "the best flow is off the axes."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """One figure for each data set with a flow that was trained to its end."""
    return [
        Figure(
            f"choose-{choice.data}",
            f"{choice.data}: which flow",
            NOTE,
            partial(_draw, choice),
            tuple(ranked.row["key"] for ranked in (*choice.flows, *choice.baselines)),
        )
        for choice in choices(frame)
        if choice.flows
    ]


def _range(choice: Choice) -> tuple[float, float]:
    """Ends of the axis of test likelihoods: what is far below the best flow would squeeze it."""
    tests = [ranked.test for ranked in choice.flows]
    best = max(test.value for test in tests)
    spread = max(0.5, 3 * (best - float(np.median([test.value for test in tests]))))
    ends = [test.value + sign * test.half(LEVEL) for test in tests for sign in (-1, 1)]
    ends += [ranked.test.value for ranked in choice.baselines]
    near = [end for end in ends if abs(end - best) <= 2 * spread]
    margin = 0.05 * (max(near) - min(near))
    return min(near) - margin, max(near) + margin


def _draw(choice: Choice) -> Any:
    looks = draw.looks(ranked.name for ranked in (*choice.flows, *choice.baselines))
    height = max(2.6, 1.2 + 0.28 * len(choice.flows))
    with draw.figure(1, 2, height=height) as (figure, axes):
        scores, curves = axes[0]
        for place, ranked in enumerate(choice.flows):
            look = looks[ranked.name]
            half = ranked.test.half(LEVEL)
            scores.errorbar(ranked.test.value, -place, xerr=half, capsize=3, **look)
            held = arrays(ranked.row, "validated", "validation_ll")
            share = held["validated"] / held["validated"][-1]
            seconds = float(ranked.row["train_process_seconds"]) * share
            finite = np.isfinite(held["validation_ll"])
            curves.plot(seconds[finite], held["validation_ll"][finite], label=ranked.name, **look)
        for ranked in choice.baselines:
            look = {"color": looks[ranked.name]["color"], "ls": ":", "label": ranked.name}
            scores.axvline(ranked.test.value, **look)
        scores.set_yticks([-place for place in range(len(choice.flows))])
        scores.set_yticklabels([ranked.name for ranked in choice.flows])
        scores.set(xlabel="test log-likelihood (nats)", ylim=(0.5 - len(choice.flows), 0.5))
        scores.set_xlim(*_range(choice))
        curves.set(xlabel="seconds of updates", ylabel="validation log-likelihood (nats)")
        ends = [ranked.val for ranked in choice.flows]
        spread = max(max(ends) - min(ends), 0.2)
        curves.set_ylim(min(ends) - spread, max(ends) + 0.2 * spread)
        handles = [*curves.get_legend_handles_labels()[0], *scores.get_legend_handles_labels()[0]]
        draw.legend_below(figure, handles, [handle.get_label() for handle in handles])
    return figure
