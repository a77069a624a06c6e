"""Figures of modes: samples of each flow beside the data, and the share of each mode."""

from collections.abc import Iterator
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
    "Above: samples of the first seed. Below: the share of samples nearest to each mode, one scale "
    "per row; dotted: the due share. Crosses: missed modes."
)


def figures(frame: pd.DataFrame) -> Iterator[Figure]:
    """For each two-dimensional data set the samples of each flow, and each mode's share."""
    done = frame[(frame["status"] == "done") & frame["arrays"].notna() & (frame["dim"] == 2)]
    for name, group in done.groupby("dataset", sort=False):
        title = f"{name}: samples and the share of each mode"
        yield Figure.of(f"modes-{name}", title, NOTE, _draw, group)


def _draw(group: pd.DataFrame) -> Any:
    """Two rows of panels an objective, a column for the data and each flow."""
    data = arrays_by_case(group.iloc[:1])[0]
    points, due = data["data_samples"], data["due"]
    extent = np.stack([points.min(0), points.max(0)], 1)
    of_data = {"samples": points, "mode_shares": data["data_shares"]}
    lines = []
    for _, objective, cases in groups(group):
        first = cases.drop_duplicates("series")
        by_flow = dict(zip(first["series"], arrays_by_case(first), strict=True))
        lines.append((OBJECTIVES[objective], {"Data": of_data, **by_flow}))
    columns = ["Data", *sorted({name for _, line in lines for name in line} - {"Data"})]
    gaps = [panels.NAME, panels.NAME / 2] * len(lines)
    with panels.squares(gaps, len(columns), 1.5) as (figure, axes):
        for pair, (objective, line) in zip(axes.reshape(len(lines), 2, -1), lines, strict=True):
            top = 105 * max(float(content["mode_shares"].max()) for content in line.values())
            for (above, below), name in zip(pair.T, columns, strict=True):
                above.set_visible(name in line)
                below.set_visible(name in line)
                if name not in line:
                    continue
                share = line[name]["mode_shares"]
                missed = share < modes.MISSED * due
                panels.cloud(above, line[name]["samples"])
                above.plot(*data["modes"][missed].T, ms=5, mew=1.5, **CROSS)
                panels.window(above, extent, 0.05)
                panels.title(above, name, "", 1.5)
                places = np.arange(len(share))
                below.bar(places, 100 * share, color=draw.COLOURS[0], width=0.8)
                below.step(places, 100 * due, where="mid", ls=":", lw=1, color="#555555")
                below.plot(places[missed], np.full(missed.sum(), 0.04 * top), ms=3.5, **CROSS)
                below.set(ylim=(0, top))
                below.set_title(f"up to {top:.0f} %", fontsize=8, pad=3)
            panels.label(figure, pair[0, 0], pair[1, 0], f"by {objective}")
    return figure
