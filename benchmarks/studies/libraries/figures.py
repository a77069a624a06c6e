"""The figure of the libraries study: ratios of times, pair by pair and call by call."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.core.exhibit import Figure
from benchmarks.plotting import draw
from benchmarks.studies.libraries.tables import CALLS, comparisons

NOTE = (
    "Median time of our flow over that of the other library's, with 95 % bootstrap intervals; "
    "left of the line ours is faster. The table shows whether both have the same accuracy."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """The ratios with their intervals, a panel a call."""
    done = frame[frame["status"] == "done"]
    rows = comparisons(done) if len(done) else done
    if "ratio" not in rows:
        return []
    keys, picture = tuple(done["key"]), partial(_picture, rows.dropna(subset="ratio"))
    return [Figure("libraries", "Ours over theirs", NOTE, picture, keys)]


def _picture(rows: pd.DataFrame) -> Any:
    labels = list(dict.fromkeys(zip(rows["pair"], rows["dim"], strict=True)))
    looks = draw.looks(rows["pair"])
    height = 0.24 * len(labels) + 1.2
    with draw.figure(1, len(CALLS), height, sharex=True, sharey=True) as (figure, axes):
        for panel, (call, title) in zip(axes[0], CALLS.items(), strict=True):
            for row in rows[rows["call"] == call].to_dict("records"):
                y, look = labels.index((row["pair"], row["dim"])), looks[row["pair"]]
                panel.hlines(y, *row["ratio.interval"], color=look["color"])
                panel.plot(row["ratio"], y, ls="", **look)
            panel.axvline(1, color="#555555", lw=1)
            panel.set(title=title, xlabel="ours / theirs", xscale="log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panel.xaxis.set_minor_formatter(NullFormatter())
        names = [f"{pair}, D = {dim}" for pair, dim in labels]
        axes[0, 0].set_yticks(range(len(labels)), names)
        axes[0, 0].invert_yaxis()
    return figure
