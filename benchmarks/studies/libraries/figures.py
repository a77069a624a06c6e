"""The figure of the libraries study: ratios of times, member by member and call by call."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.core.exhibit import Figure
from benchmarks.plotting import draw
from benchmarks.studies.libraries.tables import CALLS, comparisons

NOTE = (
    "Median time of each library's flow over that of ours, the first of its group, with 95 % "
    "bootstrap intervals; right of the line ours is faster. The table shows whether both have the "
    "same accuracy."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """The ratios with their intervals, a panel a call."""
    done = frame[frame["status"] == "done"]
    rows = comparisons(done) if "setting.group" in done and len(done) else pd.DataFrame()
    names = [f"{call}.ratio" for call in CALLS if f"{call}.ratio" in rows]
    if not names:
        return []
    rows = rows.dropna(subset=names, how="all")
    return [Figure("libraries", "Over ours", NOTE, partial(_picture, rows), tuple(done["key"]))]


def _picture(rows: pd.DataFrame) -> Any:
    looks = draw.looks(rows["group"])
    with draw.figure(1, len(CALLS), 0.2 * len(rows) + 1.2, sharex=True, sharey=True) as (
        figure,
        axes,
    ):
        for panel, (call, title) in zip(axes[0], CALLS.items(), strict=True):
            for y, row in enumerate(rows.to_dict("records")):
                look = looks[row["group"]]
                panel.plot(row[f"{call}.ratio"], y, ls="", **look)
                if pd.notna(row[f"{call}.ratio"]):
                    panel.hlines(y, *row[f"{call}.ratio.interval"], color=look["color"])
            panel.axvline(1, color="#555555", lw=1)
            panel.set(title=title, xlabel="over ours", xscale="log")
            panel.xaxis.set_major_locator(LogLocator())
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panel.xaxis.set_minor_formatter(NullFormatter())
        names = [f"{m}, D = {dim}" for m, dim in zip(rows["member"], rows["dim"], strict=True)]
        axes[0, 0].set_yticks(range(len(names)), names)
        axes[0, 0].invert_yaxis()
    return figure
