"""Figures of modes: samples of each flow beside the data, and the share of each mode."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import Figure
from benchmarks.core.frame import arrays_by_case
from benchmarks.evaluation import modes
from benchmarks.plotting import draw, panels
from benchmarks.studies.modes.tables import OBJECTIVES, groups

MISSED = draw.COLOURS[1]  # colour of the crosses at modes that are missed
NOTE = (
    "Above: samples of the first seed; crosses mark missed modes. Below: the share of samples "
    "nearest to each mode, one scale per row; dotted: the due share of each mode; crosses: "
    "missed modes."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """For each two-dimensional data set the samples of each flow, and each mode's share."""
    done = frame[(frame["status"] == "done") & frame["arrays"].notna()]
    return [
        Figure(
            f"modes-{name}",
            f"{name}: samples and the share of each mode",
            NOTE,
            partial(_draw, group),
            tuple(group["key"]),
        )
        for name, group in done.groupby("dataset", sort=False)
        if group["dim"].iloc[0] == 2
    ]


def _draw(group: pd.DataFrame) -> Any:
    data = arrays_by_case(group.iloc[:1])[0]
    own = {"samples": data["data_samples"], "mode_shares": data["data_shares"]}
    low, high = data["data_samples"].min(0), data["data_samples"].max(0)
    margin = 0.05 * (high - low)
    limits = list(zip(low - margin, high + margin, strict=True))
    lines = []
    for _, objective, cases in groups(group):
        first = cases.drop_duplicates("series")
        held = dict(zip(first["series"], arrays_by_case(first), strict=True))
        lines.append((OBJECTIVES[objective], {"Data": own, **held}))
    columns = ["Data", *sorted({name for _, held in lines for name in held} - {"Data"})]
    with draw.figure(2 * len(lines), len(columns)) as (figure, axes):
        figure.set_size_inches(1.75 * len(columns), 3.0 * len(lines))
        for panel in axes.flat:
            panel.set_visible(False)
        for place, (objective, held) in enumerate(lines):
            top = max(a["mode_shares"].max() for a in held.values())
            for flow, a in held.items():
                above, below = axes[2 * place : 2 * place + 2, columns.index(flow)]
                missed = modes.of_due(a["mode_shares"]) < modes.MISSED
                _samples(above, a["samples"], data["modes"][missed], limits)
                _bars(below, 100 * a["mode_shares"], missed, 100 * top)
                above.set_title(flow)
                below.tick_params(labelleft=flow == "Data")
                if flow == "Data":
                    above.set_ylabel(f"by {objective}")
                    below.set_ylabel("share of samples (%)")
    return figure


def _samples(panel: Any, x: np.ndarray, missed: np.ndarray, limits: list[Any]) -> None:
    panels.cloud(panel, x)
    panel.plot(*missed.T, ls="", marker="x", ms=5, mew=1.5, color=MISSED)
    panel.set(visible=True, xlim=limits[0], ylim=limits[1], aspect="equal", xticks=[], yticks=[])
    panel.grid(False)
    for spine in panel.spines.values():
        spine.set(visible=True, color="#bbbbbb")


def _bars(panel: Any, share: np.ndarray, missed: np.ndarray, top: float) -> None:
    places = np.arange(len(share))
    panel.bar(places, share, color=draw.COLOURS[0], width=0.8)
    panel.axhline(100 / len(share), ls=":", lw=1, color="#555555")
    marks = np.full(missed.sum(), 0.04 * top)
    panel.plot(places[missed], marks, ls="", marker="x", ms=3.5, color=MISSED)
    panel.set(visible=True, ylim=(0, 1.05 * top), xticks=[], xlabel=f"{len(share)} modes")
    panel.grid(False, axis="x")
