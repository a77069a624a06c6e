"""How cost grows with the batch, the width, the depth and the layers, each with all else equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import growth, sizes
from benchmarks.core.exhibit import RECORDS, Figure, Table
from benchmarks.core.series import HOW, RULES
from benchmarks.plotting import draw

Along = dict[str, pd.DataFrame]  # by series the rows along an axis

CALLS = {"log_prob": "log_prob", "step": "training step"}
DRAWN = {"log_prob_seconds": "seconds", "log_prob_flops": "FLOPs"}
DECADES = 50  # range of an axis below which powers of two tell more than those of ten


def table(done: pd.DataFrame) -> Table:
    """A row for each axis of a flow with enough sizes: degrees of counts, exponents of times."""
    rows = [
        {"Flow": name, **_grown(group, axis), RECORDS: tuple(group["key"])}
        for axis, along in lines(done).items()
        for name, group in along.items()
    ]
    note = (
        "N is the batch, H the width, ℓ the depth, L the layers; along an axis all else is equal. "
        "All costs are those of a batch. FLOPs and bytes: the degree of the polynomial that the "
        "exact counts are of (– for none), and in parentheses d ln cost / d ln size at the largest "
        "size. Seconds: that exponent of the fitted law with its 95 % interval; ≥ where the "
        "asymptote is not reached. What is of degree 0 in N is computed once for a batch, as is "
        "the determinant of weights, or what a solve precomputes of them."
    )
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")
    return Table("cost-axes", "Growth in N, H, depth and layers", note, frame)


def _grown(group: pd.DataFrame, axis: str) -> dict[str, str | None]:
    found: dict[str, Any] = {}
    for call, title in CALLS.items():
        found[f"{title}: FLOPs"] = counted = growth.counts(group, f"{call}_flops", axis)
        found[f"{title}: seconds"] = growth.seconds(group, call, counted, axis)
    found["determinant: FLOPs"] = growth.counts(group, "log_prob_determinant_flops", axis)
    found["precomputed: FLOPs"] = growth.counts(group, growth.ONCE, axis)
    found["saved: bytes"] = growth.counts(group, "step_saved_bytes", axis)
    told = {header: None if grown is None else grown.told() for header, grown in found.items()}
    reach = f"{group[axis].min():g} to {group[axis].max():g}"
    return {"Axis": sizes.AXES[axis], "Range": reach, **told}


def figures(done: pd.DataFrame) -> list[Figure]:
    """log_prob's seconds and FLOPs along each axis, relative to those at its smallest size."""
    found = lines(done)
    if not found:
        return []
    note = (
        "log_prob of a batch over its cost at the smallest size of the axis, all else equal: the "
        "medians of the seconds, and the FLOPs. N is the batch, H the width, ℓ the depth, L the "
        "layers. Dotted: the slopes of the size and of its square."
    )
    every = (group for along in found.values() for group in along.values())
    keys = tuple(dict.fromkeys(key for group in every for key in group["key"]))
    title = "Cost against N, H, depth and layers"
    return [Figure("cost-axes", title, note, lambda: _picture(found), keys)]


def lines(done: pd.DataFrame) -> dict[str, Along]:
    """For each axis that is varied the rows along it: all other sizes and options are equal."""
    done = sizes.timed(done)
    found = {axis: _along(done, axis) for axis in sizes.AXES if axis in done and len(done)}
    return {axis: along for axis, along in found.items() if along}


def _along(done: pd.DataFrame, axis: str) -> Along:
    ruled = [rule for rule in RULES if rule in done and axis == "option.hidden"]
    done = done[done[ruled].isna().all(axis=1)].drop(columns=ruled)  # no widths that follow D
    told = [c for c in done if str(c).startswith(("option.", "setting."))]
    equal = [c for c in ("flow", "dim", "batch", *told) if c not in (axis, *HOW)]
    alike = pd.Series(map(repr, done[equal].to_dict("records")), done.index, dtype=object)
    grid = done[done.groupby(alike)[axis].transform("nunique") >= growth.SIZES]
    names = sizes.names(grid.assign(**{"option.D": grid["dim"]}), [axis])
    series = pd.Series(names, grid.index, dtype=object)
    return {str(name): group.sort_values(axis) for name, group in grid.groupby(series)}


def _picture(found: dict[str, Along]) -> Any:
    looks = draw.looks(name for along in found.values() for name in along)
    handles: dict[str, Any] = {}
    frames = [group for along in found.values() for group in along.values()]
    metrics = [metric for metric in DRAWN if any(metric in group for group in frames)]
    with draw.figure(len(metrics), len(found), height=3) as (figure, axes):
        for row, metric in zip(axes, metrics, strict=True):
            for panel, (axis, along) in zip(row, found.items(), strict=True):
                _lines(panel, along, axis, metric, looks)
                handles |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
            row[0].set_ylabel("relative to the smallest")
        draw.legend_below(figure, [handles[name] for name in sorted(handles)], sorted(handles))
    return figure


def _lines(panel: Any, along: Along, axis: str, metric: str, looks: dict[str, Any]) -> None:
    largest, name = 1.0, sizes.AXES[axis]
    for series, group in along.items():
        costs = group.groupby(axis)[metric].median().dropna()
        panel.plot(costs.index, costs / costs.iloc[0], label=series, **looks[series])
        largest = max(largest, costs.max() / costs.iloc[0])
    marks = pd.concat(group[axis] for group in along.values())
    draw.logarithmic(panel.xaxis, panel.yaxis)
    draw.ticks(panel.xaxis, marks)
    if largest < DECADES:
        draw.ticks(panel.yaxis, [2.0**power for power in range(int(np.log2(largest)) + 1)])
    reach = marks.max() / marks.min()
    ends = [marks.min() * reach**share for share in (0.15, 0.35)]
    draw.guide(panel, ends, largest, [1, 2], name)
    panel.set(xlabel=name, title=f"{DRAWN[metric]} in {name}")
