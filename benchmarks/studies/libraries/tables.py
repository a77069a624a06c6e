"""Two libraries, shown: the ratio of their times, and whether it is one at the same accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.analysis.stats import ratio_of_medians
from benchmarks.core.exhibit import RECORDS, Figure, Table
from benchmarks.plotting import draw

CALLS = {
    "log_prob": "log_prob",
    "step": "training step",
    "sample": "sampling",
    "build": "construction",
}
SIDES = ("ours", "theirs")
MEASURED = {"Parameters": "parameters", "FLOP": "{call}_flops", "Error (nats)": "log_prob_error"}


def tables(frame: pd.DataFrame) -> list[Table]:
    """A row for each pair, dimension and call: times, their ratio, size, FLOPs and errors."""
    if frame.empty:
        return []
    note = (
        "Medians of one call on the whole batch, timed in the same shuffled rounds, and the middle "
        "half of the raw samples; ratio with a 95 % bootstrap interval, below 1 where ours is the "
        "faster. Both flows have the same depth, layers and, within 5 %, number of parameters. "
        "Error: the largest of log_prob over the batch against a float64 solution at a tight "
        "tolerance; a ratio compares like with like only where both errors are about the same."
    )
    digits = {f"{what}, {side}": ".4g" for what in MEASURED for side in SIDES}
    digits |= {f"{side.title()} (ms)": ".3g" for side in SIDES}
    digits |= {f"Parameters, {side}": ",.0f" for side in SIDES}
    digits |= {f"Error (nats), {side}": ".1e" for side in SIDES}
    return [
        Table(
            "libraries",
            "Ours and theirs",
            note,
            pd.DataFrame(_rows(frame)).drop(columns="ends", errors="ignore"),
            digits | {"Ours / theirs": ".3g"},
        )
    ]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """The ratios with their intervals, a panel a call."""
    done = frame[frame["status"] == "done"]
    if not any("Ours / theirs" in row for row in _rows(done)):
        return []
    note = (
        "Median time of ours over that of theirs, with 95 % bootstrap intervals: left of the line "
        "ours is the faster. Whether at the same accuracy is in the table."
    )
    title = "Ours over theirs"
    return [Figure("libraries", title, note, lambda: _picture(done), tuple(done["key"]))]


def _rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The table's rows; a side that was not measured has its status where its time would be."""
    frame = frame.assign(place=pd.factorize(frame["setting.pair"])[0])
    for (_, dim), group in frame.groupby(["place", "dim"]):
        pair = group["setting.pair"].iloc[0]
        sides = {row["setting.side"]: row for _, row in group.iterrows()}
        for call, title in CALLS.items():
            row: dict[str, Any] = {"Pair": pair, "D": dim, "Call": title}
            row[RECORDS] = tuple(group["key"])
            for name, side in sides.items():
                row |= _times(side, name, call)
            if all(name in sides and sides[name]["status"] == "done" for name in SIDES):
                row |= _ratio(sides["ours"], sides["theirs"], call)
            for what, metric in MEASURED.items():
                for name, side in sides.items():
                    row[f"{what}, {name}"] = side.get(metric.format(call=call), float("nan"))
            yield row


def _times(side: pd.Series, name: str, call: str) -> dict[str, Any]:
    header = f"{name.title()} (ms)"
    if side["status"] != "done":
        return {header: side["status"], f"{header}, middle half": None}
    samples = np.asarray(side[f"{call}_seconds.values"]) * 1e3
    low, high = np.quantile(samples, [0.25, 0.75])
    return {header: float(np.median(samples)), f"{header}, middle half": f"{low:.3g} to {high:.3g}"}


def _ratio(ours: pd.Series, theirs: pd.Series, call: str) -> dict[str, Any]:
    """Relative to the reference workload of each, which is one where they were timed together."""
    samples = [
        np.asarray(side[f"{call}_seconds.values"]) / side["reference_seconds"]
        for side in (ours, theirs)
    ]
    value, low, high = ratio_of_medians(*samples)
    return {
        "Ours / theirs": value,
        "95 % interval": f"{low:.3g} to {high:.3g}",
        "ends": (low, high),
    }


def _picture(done: pd.DataFrame) -> Any:
    rows = [row for row in _rows(done) if "Ours / theirs" in row]
    labels = list(dict.fromkeys((row["Pair"], row["D"]) for row in rows))
    looks = draw.looks(pair for pair, _ in labels)
    height = 0.24 * len(labels) + 1.2
    with draw.figure(1, len(CALLS), height, sharex=True, sharey=True) as (figure, axes):
        for panel, title in zip(axes[0], CALLS.values(), strict=True):
            for row in rows:
                if row["Call"] != title:
                    continue
                y, look = labels.index((row["Pair"], row["D"])), looks[row["Pair"]]
                panel.hlines(y, *row["ends"], color=look["color"])
                panel.plot(row["Ours / theirs"], y, ls="", **look)
            panel.axvline(1, color="#555555", lw=1)
            panel.set(title=title, xlabel="ours / theirs", xscale="log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panel.xaxis.set_minor_formatter(NullFormatter())
        names = [f"{pair}, D = {dim}" for pair, dim in labels]
        axes[0, 0].set_yticks(range(len(labels)), names)
        axes[0, 0].invert_yaxis()
    return figure
