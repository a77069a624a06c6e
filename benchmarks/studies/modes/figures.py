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

CROSS = {"ls": "", "marker": "x", "color": draw.COLOURS[1]}  # at modes that are missed
NOTE = (
    "Above: samples of the first seed; crosses mark missed modes. Below: the share of samples "
    "nearest to each mode, one scale per row; dotted: the due share of each mode; crosses: "
    "missed modes."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """For each two-dimensional data set the samples of each flow, and each mode's share."""
    done = frame[(frame["status"] == "done") & frame["arrays"].notna() & (frame["dim"] == 2)]
    pictures = []
    for name, group in done.groupby("dataset", sort=False):
        title, keys = f"{name}: samples and the share of each mode", tuple(group["key"])
        pictures.append(Figure(f"modes-{name}", title, NOTE, partial(_draw, group), keys))
    return pictures


def _draw(group: pd.DataFrame) -> Any:
    """Two rows of panels an objective, a column for the data and each flow."""
    data = arrays_by_case(group.iloc[:1])[0]
    own = {"samples": data["data_samples"], "mode_shares": data["data_shares"]}
    ends = data["data_samples"].min(0), data["data_samples"].max(0)
    margin = 0.05 * (ends[1] - ends[0])
    window = list(zip(ends[0] - margin, ends[1] + margin, strict=True))
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
        for (objective, held), pair in zip(lines, axes.reshape(len(lines), 2, -1), strict=True):
            top = max(a["mode_shares"].max() for a in held.values())
            for flow, a in held.items():
                above, below = pair[:, columns.index(flow)]
                missed = modes.of_due(a["mode_shares"]) < modes.MISSED
                panels.cloud(above, a["samples"])
                above.plot(*data["modes"][missed].T, ms=5, mew=1.5, **CROSS)
                above.set(xlim=window[0], ylim=window[1], aspect="equal", xticks=[], yticks=[])
                above.set(visible=True, title=flow)
                above.grid(False)
                for spine in above.spines.values():
                    spine.set(visible=True, color="#bbbbbb")
                _bars(below, 100 * a["mode_shares"], missed, 100 * top)
                below.tick_params(labelleft=flow == "Data")
            pair[0, 0].set_ylabel(f"by {objective}")
            pair[1, 0].set_ylabel("share of samples (%)")
    return figure


def _bars(panel: Any, share: np.ndarray, missed: np.ndarray, top: float) -> None:
    places = np.arange(len(share))
    panel.bar(places, share, color=draw.COLOURS[0], width=0.8)
    panel.axhline(100 / len(share), ls=":", lw=1, color="#555555")
    panel.plot(places[missed], np.full(missed.sum(), 0.04 * top), ms=3.5, **CROSS)
    panel.set(visible=True, ylim=(0, 1.05 * top), xticks=[], xlabel=f"{len(share)} modes")
    panel.grid(False, axis="x")
