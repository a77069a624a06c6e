"""Time to a likelihood, shown: what it takes to come to some levels, and the curves."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import levels
from benchmarks.core.exhibit import RECORDS, Figure, Table
from benchmarks.core.series import series
from benchmarks.core.store import arrays
from benchmarks.plotting import draw

AXES = {  # header -> array, format
    "Median (s)": ("validation_seconds", ".3g"),
    "Updates (median)": ("validated", ",.0f"),
    "FLOP (median)": ("validation_flops", ".3g"),
}
LOOK = {"markersize": 3.5, "lw": 1.2, "markevery": 0.15}


def tables(frame: pd.DataFrame) -> list[Table]:
    """A table a data set: each flow's seconds, updates and FLOPs to each level."""
    found = frame.groupby("dataset", sort=False) if len(frame) else ()
    return [_table(str(name), group) for name, group in found]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """The best NLL so far against seconds and against updates, a row a data set."""
    done = _done(frame) if len(frame) else frame
    if done.empty:
        return []
    note = (
        "The lowest negative log-likelihood of the validation rows so far, one line a seed, by the "
        "exact trace and an adaptive solver; seconds are of training, validation apart. Dotted: "
        "the fitted Gaussian (0%), and shares of the way from it to the best."
    )
    title = "Validation NLL against seconds and updates"
    return [Figure("time-to-nll", title, note, partial(_picture, done), tuple(done["key"]))]


def _done(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["status"] == "done") & frame["arrays"].notna()]


def _levels(group: pd.DataFrame, curves: dict[str, Any]) -> dict[str, float]:
    """The levels of one data set, by the done cases of its flows."""
    best = [[levels.reached(curves[k]) for k in own["key"]] for _, own in group.groupby("series")]
    return levels.between(float(group["gaussian_ll"].median()), best)


def _table(name: str, group: pd.DataFrame) -> Table:
    group = group.assign(series=series(group))
    done = _done(group)
    curves = {row["key"]: arrays(row) for _, row in done.iterrows()}
    rows: list[dict[str, Any]] = []
    for label, level in (_levels(done, curves) if len(done) else {"": float("nan")}).items():
        listed = [
            {"To": label, "NLL (nats)": -level, "Flow": flow, **_row(seeds, curves, level)}
            for flow, seeds in group.groupby("series", sort=False)
        ]
        rows += sorted(listed, key=lambda row: row["Median (s)"] if "Range (s)" in row else np.inf)
    note = (
        "Until the validation NLL first comes to a level: of the way from the fitted Gaussian (0%) "
        "to the best, which is the lowest NLL of a flow as its median seed has it (100%), and to "
        "the level that every seed of every flow reaches. Medians over seeds; validation is looked "
        "at every few updates, and its seconds are not counted. In units of the reference "
        "workload, which was timed beside each training, seconds can be compared between machines."
    )
    digits = {"NLL (nats)": ".3f", "Reference workloads": ",.0f"}
    digits |= {header: spec for header, (_, spec) in AXES.items()}
    title = f"{name}: time to a likelihood"
    return Table(f"time-to-nll-{name}", title, note, pd.DataFrame(rows), digits)


def _row(seeds: pd.DataFrame, curves: dict[str, Any], level: float) -> dict[str, Any]:
    """What the seeds of a flow took to a level."""
    done = seeds[seeds["key"].isin(curves)]
    row: dict[str, Any] = {RECORDS: tuple(seeds["key"])}
    if done.empty:
        return row | {"Median (s)": str(seeds["status"].iloc[0])}
    took = pd.DataFrame(
        {
            h: [levels.at(curves[key], axis, level) for key in done["key"]]
            for h, (axis, _) in AXES.items()
        }
    )
    seconds, middle = took["Median (s)"].to_numpy(), took.median()
    row["Seeds"] = f"{np.isfinite(seconds).sum()} of {len(done)}"
    if not np.isfinite(middle["Median (s)"]):
        return row | {"Median (s)": f"not reached in {done['train_seconds'].max():.3g} s"}
    ends = f"{seconds.min():.3g} to {seconds.max():.3g}".replace("inf", "not reached")
    units = float(np.median(seconds / done["reference_seconds"].to_numpy()))
    row |= {"Median (s)": float(middle["Median (s)"]), "Range (s)": ends}
    return row | {str(h): float(v) for h, v in middle.items()} | {"Reference workloads": units}


def _picture(done: pd.DataFrame) -> Any:
    groups = [(n, g.assign(series=series(g))) for n, g in done.groupby("dataset", sort=False)]
    looks = draw.looks(name for _, group in groups for name in group["series"])
    with draw.figure(len(groups), 2, height=3.2) as (figure, axes):
        for panels, (name, group) in zip(axes, groups, strict=True):
            curves = {row["key"]: arrays(row) for _, row in group.iterrows()}
            for flow, seeds in group.groupby("series", sort=False):
                for label, key in zip(
                    [str(flow)] + [None] * len(seeds), seeds["key"], strict=False
                ):
                    _lines(panels, curves[key], label, looks[str(flow)])
            marks = {"0%": float(group["gaussian_ll"].median()), **_levels(group, curves)}
            for panel, header in zip(panels, ("seconds of training", "updates"), strict=True):
                _frame(panel, marks)
                panel.set(title=str(name), xlabel=header, ylabel="validation NLL (nats)")
        named = {h.get_label(): h for row in axes for h in row[0].get_legend_handles_labels()[0]}
        draw.legend_below(figure, list(named.values()), list(named))
    return figure


def _lines(panels: Any, a: dict[str, np.ndarray], label: str | None, look: dict[str, Any]) -> None:
    """The best so far of one training, from its first validation after an update."""
    best = -np.maximum.accumulate(a["validation_ll"])
    shown = np.isfinite(best) & (a["validated"] > 0)
    for panel, axis in zip(panels, ("validation_seconds", "validated"), strict=True):
        panel.plot(a[axis][shown], best[shown], label=label, **look, **LOOK)


def _frame(panel: Any, marks: dict[str, float]) -> None:
    """Axes that show the way from the Gaussian to the best, and its levels."""
    draw.logarithmic(panel.xaxis)
    ends = [-level for level in marks.values()]
    high, low = max(ends), min(float(np.min(line.get_ydata())) for line in panel.lines)
    panel.set_ylim(low - 0.05 * (high - low), high + 0.3 * (high - low))
    panel.grid(False)
    last = np.inf
    for label, level in marks.items():
        if label == levels.COMMON or last + level < 0.06 * (high - low):  # no room for its name
            continue
        last = -level
        panel.axhline(-level, ls=":", lw=0.8, color="#888888")
        panel.annotate(label, (1, -level), xycoords=("axes fraction", "data"), fontsize=7)
