"""Figures of identities: errors against steps, and errors of estimates in R^D and R^K."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import Figure
from benchmarks.core.naming import name_runs
from benchmarks.plotting import draw
from benchmarks.studies.identities.tables import (
    NAMES,
    NOTES,
    TITLES,
    convergence,
    done,
    estimates,
)

PLACES = {"d": "R^D", "k": "R^K"}


def figures(frame: pd.DataFrame) -> list[Figure]:
    """A figure for each identity that falls with the steps or is estimated."""
    pictures = {"order": _orders, "rate": _orders, "estimate": _estimates}
    return [
        Figure(f"identities-{i}", TITLES[i], NOTES[i], partial(picture, rows), tuple(rows["key"]))
        for i, picture in pictures.items()
        if len(rows := name_runs(done(frame, i), *NAMES))
    ]


def _orders(rows: pd.DataFrame) -> Any:
    method = rows.get("setting.method", pd.Series(index=rows.index, dtype=object))
    names = method.astype(object).fillna(rows["option.time"] + ", D = " + rows["dim"].astype(str))
    looks = draw.looks(names)
    with draw.figure(1, 1) as (figure, axes):
        panel = axes[0, 0]
        for name, (_, row) in zip(names, rows.iterrows(), strict=True):
            steps, errors, order = convergence(row)
            panel.plot(steps, errors, label=f"{name}: order {order:.2f}", **looks[name])
        draw.logarithmic(panel.xaxis, panel.yaxis)
        draw.ticks(panel.xaxis, [n for _, row in rows.iterrows() for n in convergence(row)[0]])
        panel.set(xlabel="steps", ylabel="error")
        draw.legend_below(figure, *panel.get_legend_handles_labels())
    return figure


def _estimates(rows: pd.DataFrame) -> Any:
    fields = estimates(rows)
    names = [f"{f.field}, {f.dim} → {f.width:g}, {f.noise}" for f in fields.itertuples()]
    heights = np.arange(len(fields))[::-1]
    looks = draw.looks(PLACES.values())
    with draw.figure(1, 1, 0.3 * len(fields) + 1) as (figure, axes):
        panel = axes[0, 0]
        for place, space in PLACES.items():
            if f"rmse_{place}" not in fields:
                continue
            look = looks[space]
            bars = {"xerr": 2 * fields[f"rmse_{place}_se"], **look, "ls": ""}
            panel.errorbar(fields[f"rmse_{place}"], heights, label=f"in {space}", **bars)
            marks = {"color": look["color"], "marker": "|", "ms": 13, "ls": ""}
            panel.plot(fields[f"theory_{place}"], heights, label=f"theory in {space}", **marks)
        panel.set_yticks(heights, names)
        panel.set(xlabel="error of one probe / ‖∂f/∂x‖", xlim=(0, None))
        draw.legend_below(figure, *panel.get_legend_handles_labels())
    return figure
