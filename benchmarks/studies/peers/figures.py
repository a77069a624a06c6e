"""Figures of the peers: ratios of times, differences of likelihoods."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.core.exhibit import Figure
from benchmarks.core.metrics import METRICS
from benchmarks.plotting import draw
from benchmarks.studies.peers.tables import CALLS, SPEED_CALLS, STAGES, costs, named, scores

LIBRARIES = (
    "Median time of each library's flow over that of ours, the first of its group, with 95 % "
    "bootstrap intervals; right of the line ours is faster. The table shows whether both have the "
    "same accuracy."
)
LIKELIHOODS = (
    "Mean test log-likelihood of each library's flow less that of ours, the first of its group, "
    "paired by seed and split, with 95 % intervals; left of the line ours is better."
)
SPEED = (
    "Median time of a call over that of the same call by the eager flow, timed in the same "
    "shuffled turns: left of the line a competitor is faster. The table shows whether both have "
    "the same error."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """A figure for each part that has something to draw."""
    parts = dict(list(frame.groupby("setting.part", sort=False)))
    builders = {"libraries": libraries, "likelihoods": likelihoods, "speed": speed}
    return [figure for part in builders if part in parts for figure in builders[part](parts[part])]


def libraries(frame: pd.DataFrame) -> Iterator[Figure]:
    """The ratios with their intervals, a panel a call."""
    rows = costs(done) if len(done := frame[frame["status"] == "done"]) else pd.DataFrame()
    names = [f"{call}.ratio" for call in CALLS if f"{call}.ratio" in rows]
    if names:
        rows = rows.dropna(subset=names, how="all")
        rows = rows.assign(name=rows["member"] + ", D = " + rows["dim"].astype(str))
        panels = [(title, rows, f"{call}.ratio") for call, title in CALLS.items()]
        picture = partial(_picture, [panels], "group", "over ours", log=LogLocator())
        yield Figure("libraries", "Over ours", LIBRARIES, picture, tuple(done["key"]))


def likelihoods(frame: pd.DataFrame) -> Iterator[Figure]:
    """Differences with their intervals, a row of panels a data set, a panel a stage."""
    names = [f"{stage}.difference" for stage in STAGES]
    rows = scores(frame).dropna(subset=names, how="all")
    if len(rows):
        rows = rows.assign(name=rows["member"])
        panels = [
            [(f"{dataset}, {words}", own, f"{s}.difference") for s, words in STAGES.items()]
            for dataset, own in rows.groupby("dataset", sort=False)
        ]
        keys = tuple(key for records in rows["records"] for key in records)
        title, picture = "Likelihood less that of ours", partial(_picture, panels, "group", "nats")
        yield Figure("library_likelihoods", title, LIKELIHOODS, picture, keys)


def speed(frame: pd.DataFrame) -> Iterator[Figure]:
    """Times over those of the eager flow, a panel a call."""
    done = named(frame)[frame["status"] == "done"]
    rows = relative(done)
    if len(rows):
        panels = [
            (METRICS[f"{call}_seconds"].name, rows[rows["call"] == call], "ratio")
            for call in SPEED_CALLS
            if (rows["call"] == call).any()
        ]
        log = LogLocator(subs=(1, 2, 5))
        picture = partial(_picture, [panels], "competitor", "time / eager", log=log)
        yield Figure("speed", "Times over the eager flow's", SPEED, picture, tuple(done["key"]))


def relative(done: pd.DataFrame) -> pd.DataFrame:
    """A row for each call of a competitor: subject (name), competitor, call, and time over eager's.

    The eager flow is the first of its block.
    """
    rows = []
    for _, group in done.groupby("block", sort=False):
        eager = group[group["setting.by"] == "eager"].head(1)
        for call in (c for c in SPEED_CALLS if f"{c}_seconds" in group and len(eager)):
            base = eager[f"{call}_seconds"].iloc[0]
            for _, row in group[group[f"{call}_seconds"].notna()].iterrows():
                busy = ", busy" * bool(row.get("setting.busy"))
                subject = {"name": f"{row['flow']}, D = {row['dim']}{busy}", "call": call}
                ratio = row[f"{call}_seconds"] / base
                rows.append(subject | {"competitor": row["competitor"], "ratio": ratio})
    return pd.DataFrame(rows)


def _picture(
    panels: list[list[tuple[str, pd.DataFrame, str]]],
    series: str,
    label: str,
    log: LogLocator | None = None,
) -> Any:
    """Points of rows by name, with intervals where there are any, about the line of no difference.

    A panel is a title, its rows and the column that it draws; ``series`` is the column by which
    points are coloured, and has a legend unless names tell it.
    """
    every = pd.concat([rows for line in panels for _, rows, _ in line])
    names, looks = list(dict.fromkeys(every["name"])), draw.looks(every[series])
    legend = series == "competitor"
    height, handles = 0.2 * len(names) * (1.5 if legend else 1) + 0.9 + 0.7 * legend, {}
    share = {"sharex": "row" if log is None else not legend, "sharey": True}
    with draw.figure(len(panels), len(panels[0]), height, **share) as (figure, axes):
        for panel, (title, rows, column) in zip(axes.flat, chain(*panels), strict=True):
            for row in rows.dropna(subset=[column]).to_dict("records"):
                y, look = names.index(row["name"]), looks[row[series]]
                (handles[row[series]],) = panel.plot(row[column], y, ls="", **look)
                if isinstance(interval := row.get(f"{column}.interval"), tuple):
                    panel.hlines(y, *interval, color=look["color"])
            panel.axvline(0 if log is None else 1, color="#555555", lw=1)
            panel.set(title=title, xlabel=label)
            if log is not None:
                panel.set_xscale("log")
                panel.xaxis.set_major_locator(log)
                panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
                panel.xaxis.set_minor_formatter(NullFormatter())
        axes[0, 0].set_yticks(range(len(names)), names)
        axes[0, 0].invert_yaxis()
        if legend:
            draw.legend_below(figure, list(handles.values()), list(handles))
    return figure
