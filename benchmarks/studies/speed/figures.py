"""The figure of the speed study: times of all competitors over those of the eager flow."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.core.exhibit import Figure
from benchmarks.core.metrics import METRICS
from benchmarks.evaluation.contest import CALLS
from benchmarks.plotting import draw
from benchmarks.studies.speed.tables import named

NOTE = (
    "Median time of a call over that of the same call by the eager flow, timed in the same "
    "shuffled turns: left of the line a competitor is faster. The table shows whether both have "
    "the same error."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Times over those of the eager flow, a panel a call."""
    done = named(frame)[frame["status"] == "done"]
    rows = relative(done)
    if rows.empty:
        return []
    picture = partial(_picture, rows)
    return [Figure("speed", "Times over the eager flow's", NOTE, picture, tuple(done["key"]))]


def relative(done: pd.DataFrame) -> pd.DataFrame:
    """A row for each call of a competitor: subject, competitor, call, and its time over eager's.

    The eager flow is the first of its block.
    """
    rows = []
    for _, group in done.groupby("block", sort=False):
        eager = group[group["setting.by"] == "eager"].head(1)
        for call in (c for c in CALLS if f"{c}_seconds" in group and len(eager)):
            for _, row in group[group[f"{call}_seconds"].notna()].iterrows():
                busy = bool(row.get("setting.busy"))
                rows.append(
                    {
                        "subject": f"{row['flow']}, D = {row['dim']}{', busy' * busy}",
                        "competitor": row["competitor"],
                        "call": call,
                        "ratio": row[f"{call}_seconds"] / eager[f"{call}_seconds"].iloc[0],
                    }
                )
    return pd.DataFrame(rows)


def _picture(rows: pd.DataFrame) -> Any:
    subjects = list(dict.fromkeys(rows["subject"]))
    calls = [call for call in CALLS if (rows["call"] == call).any()]
    looks = draw.looks(rows["competitor"])
    height, handles = 0.3 * len(subjects) + 1.6, {}
    with draw.figure(1, len(calls), height, sharey=True) as (figure, axes):
        for panel, call in zip(axes[0], calls, strict=True):
            for row in rows[rows["call"] == call].to_dict("records"):
                name = row["competitor"]
                (handles[name],) = panel.plot(
                    row["ratio"], subjects.index(row["subject"]), ls="", **looks[name]
                )
            panel.axvline(1, color="#555555", lw=1)
            title = METRICS[f"{call}_seconds"].name
            panel.set(title=title, xlabel="time / eager", xscale="log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panel.xaxis.set_minor_formatter(NullFormatter())
        axes[0, 0].set_yticks(range(len(subjects)), subjects)
        axes[0, 0].invert_yaxis()
        draw.legend_below(figure, list(handles.values()), list(handles))
    return figure
