"""The figure of libraries' likelihoods: each member's difference to the first of its group."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from benchmarks.core.exhibit import Figure
from benchmarks.plotting import draw
from benchmarks.studies.library_likelihoods.tables import STAGES, comparisons

NOTE = (
    "Mean test log-likelihood of each library's flow less that of ours, the first of its group, "
    "paired by seed and split, with 95 % intervals; left of the line ours is better."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Differences with their intervals, a row of panels a data set, a panel a stage."""
    rows = comparisons(frame)
    rows = rows.dropna(subset=[f"{stage}.difference" for stage in STAGES], how="all")
    if rows.empty:
        return []
    keys = tuple(key for records in rows["records"] for key in records)
    title, picture = "Likelihood less that of ours", partial(_picture, rows)
    return [Figure("library_likelihoods", title, NOTE, picture, keys)]


def _picture(rows: pd.DataFrame) -> Any:
    sets, looks = rows["dataset"].unique(), draw.looks(rows["group"])
    names = list(dict.fromkeys(rows["member"]))
    height = 0.2 * len(names) + 0.9
    with draw.figure(len(sets), len(STAGES), height, sharey=True, sharex="row") as (figure, axes):
        for panels, dataset in zip(axes, sets, strict=True):
            own = rows[rows["dataset"] == dataset].to_dict("records")
            for panel, (stage, words) in zip(panels, STAGES.items(), strict=True):
                for row in own:
                    if isinstance(row[f"{stage}.difference.interval"], tuple):
                        y, look = names.index(row["member"]), looks[row["group"]]
                        panel.hlines(y, *row[f"{stage}.difference.interval"], color=look["color"])
                        panel.plot(row[f"{stage}.difference"], y, ls="", **look)
                panel.axvline(0, color="#555555", lw=1)
                panel.set(title=f"{dataset}, {words}", xlabel="nats")
        axes[0, 0].set_yticks(range(len(names)), names)
        axes[0, 0].invert_yaxis()
    return figure
