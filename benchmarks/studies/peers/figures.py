"""Figures of the peers: ratios of times, differences of likelihoods."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import Figure
from benchmarks.core.metrics import METRICS
from benchmarks.plotting import draw
from benchmarks.studies.peers import tables

LIBRARIES = (
    "Median time of each library's flow over that of ours, with 95 % bootstrap intervals; right of "
    "the line ours is faster. The table shows whether both have the same accuracy."
)
LIKELIHOODS = (
    "Mean test log-likelihood of each library's flow less that of ours, paired by seed and split, "
    "with 95 % intervals; left of the line ours is better."
)
SPEED = (
    "Median time of a call over that of the eager flow, timed in the same shuffled turns: left of "
    "the line a competitor is faster. The table shows whether both have the same error."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    parts = dict(list(frame.groupby("setting.part", sort=False)))
    builders = {"libraries": libraries, "likelihoods": likelihoods, "speed": speed}
    return [figure for part in builders if part in parts for figure in builders[part](parts[part])]


def libraries(frame: pd.DataFrame) -> Iterator[Figure]:
    """The ratios with their intervals, a panel a call."""
    rows = tables.costs(frame[frame["status"] == "done"])
    titles = {f"{call}.ratio": title for call, title in tables.CALLS.items()}
    panels = {name: title for name, title in titles.items() if name in rows}
    if panels:
        rows = rows.assign(name=rows["member"] + ", D = " + rows["dim"].astype(str))
        points = _points(rows, panels)
        yield Figure.of("libraries", "Over ours", LIBRARIES, _picture, points, "group", "over ours")


def likelihoods(frame: pd.DataFrame) -> Iterator[Figure]:
    """Differences with their intervals, a row of panels a data set, a panel a stage."""
    columns = {f"{stage}.difference": words for stage, words in tables.STAGES.items()}
    rows = tables.scores(frame).dropna(subset=list(columns), how="all")
    if len(rows):
        points = _points(rows.assign(name=rows["member"]), columns)
        points = points.assign(panel=points["dataset"] + ", " + points["panel"])
        points = points.sort_values("dataset", kind="stable")
        title, layout = "Likelihood less that of ours", ("group", "nats", len(tables.STAGES), 0.0)
        yield Figure.of("library_likelihoods", title, LIKELIHOODS, _picture, points, *layout)


def speed(frame: pd.DataFrame) -> Iterator[Figure]:
    """Times over those of the eager flow, the first of its block, a panel a call."""
    done = tables.named(frame)[frame["status"] == "done"]
    if done.empty:
        return
    busy = done["setting.busy"].map(lambda processes: ", busy" if processes else "")
    name = done["flow"] + ", D = " + done["dim"].astype(str) + busy
    sizes = done.groupby(name)["batch"].transform("nunique")
    name += (", N = " + done["batch"].astype(str)).where(sizes > 1, "")
    panels = {}
    for call in tables.SPEED_CALLS:
        raw = [tables.samples(row, call) for row in done.to_dict("records")]
        seconds = pd.Series([np.nan if r is None else np.median(r) for r in raw], done.index)
        eager = seconds.where(done["setting.by"] == "eager").groupby(done["block"])
        done[f"{call}.ratio"] = seconds / eager.transform("first")
        panels[f"{call}.ratio"] = METRICS[f"{call}_seconds"].name
    points = _points(done.assign(name=name), panels)
    if len(points):
        title, layout = "Times over the eager flow's", ("competitor", "time / eager", 0, 1.0, True)
        yield Figure.of("speed", title, SPEED, _picture, points, *layout)


def _points(rows: pd.DataFrame, panels: Mapping[str, str]) -> pd.DataFrame:
    """A row for each value of the columns, with its interval and the title of its panel."""
    parts = [
        rows.assign(panel=title, value=rows[name], interval=rows.get(f"{name}.interval"))
        for name, title in panels.items()
    ]
    return pd.concat(parts).dropna(subset=["value"])


def _picture(
    points: pd.DataFrame,
    series: str,
    label: str,
    columns: int = 0,
    zero: float = 1.0,
    legend: bool = False,
) -> Any:
    """Points by name with their intervals, about the line ``zero`` of no difference.

    ``series`` is the column by which points are coloured; ratios have logarithmic axes.
    """
    panels = list(points.groupby("panel", sort=False))
    names, looks = list(dict.fromkeys(points["name"])), draw.looks(points[series])
    columns = columns or len(panels)
    height = 0.2 * len(names) * (1.5 if legend else 1) + 0.9
    with draw.figure(-(-len(panels) // columns), columns, height, sharey=True) as (figure, axes):
        for panel, (title, rows) in zip(axes.flat, panels, strict=True):
            for row in rows.to_dict("records"):
                y, look = names.index(row["name"]), looks[row[series]]
                panel.plot(row["value"], y, ls="", label=row[series], **look)
                if isinstance(row["interval"], tuple):
                    panel.hlines(y, *row["interval"], color=look["color"])
            panel.axvline(zero, color="#555555", lw=1)
            draw.finish(panel, log="x" if zero else "", title=title, xlabel=label)
        axes[0, 0].set_yticks(range(len(names)), names)
        axes[0, 0].invert_yaxis()
        if legend:
            draw.legend_of(figure, axes.flat)
    return figure
