"""Figures of the cost study: cost against each size, a linear layer alone, the parts of a solve."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import counts, growth
from benchmarks.core.exhibit import Figure, per_row
from benchmarks.core.metrics import METRICS
from benchmarks.plotting import draw
from benchmarks.studies.cost.tables import metrics_of, own

PER_ROW = ("log_prob_flops", "log_prob_seconds", "step_saved_bytes")
LINEAR = ("linear_flops", "linear_seconds")  # of a batch: its determinant is taken once
ALONG = ("log_prob_seconds", "log_prob_flops")
DECADES = 50  # range of an axis below which powers of two tell more than those of ten
PARTS = {"field": "#0072B2", "trace": "#E69F00", "solver": "#999999"}
POINTS = (
    "Points are medians, bars the interquartile range of the raw samples. Dotted: slopes D, D² "
    "and D³. FLOPs count matrix products, LU and triangular solves."
)
ROWS = (
    f"Per row: the cost of a batch divided by its rows. {POINTS} Continuous flows take the number "
    "of evaluations (NFE) that the table lists, measured with untrained fields."
)
SLOPES = (
    "Dashed line and number: the exponent d ln cost / d ln D at the largest D. That of FLOPs is "
    "computed from exact counts, that of seconds from the fitted law if it has reached its "
    "asymptote. At least four sizes are needed."
)
ALONE = (
    "One pass of the batch through the invertible linear layers of a flow, with their "
    "log-determinant, which is computed once for all rows."
)
SHARES = (
    "Shares of the time of one log_prob: evaluations of the field, the traces, and the rest, "
    "which is the solver's own work and the products of weights that it computes once. One "
    "evaluation is timed by itself in the same rounds and multiplied by NFE, so the evaluations "
    "can exceed the whole."
)
AXES = (
    "Cost of log_prob relative to its cost at the smallest size of the axis, all other sizes "
    "equal: medians of the seconds, and FLOPs. N is the batch size, H the width, ℓ the depth, L "
    "the number of layers. Dotted: slopes one and two."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Cost of a row against D, the parts of a solve, and cost against other sizes."""
    done = own(frame[frame["status"] == "done"])
    if done.empty:
        return []
    every = list(_against_dimension(sizes.scans(done)))
    if lines := sizes.lines(done):
        groups = [group for along in lines.values() for group in along.values()]
        keys = tuple(dict.fromkeys(key for group in groups for key in group["key"]))
        title = "Cost against N, H, depth and layers"
        every.append(Figure("cost-axes", title, AXES, partial(_axes, lines), keys))
    return every


def _against_dimension(scans: pd.DataFrame) -> Iterator[Figure]:
    """The figures that the records have something for."""
    keys = tuple(dict.fromkeys(scans["key"]))
    per_sample = partial(_panels, scans, [[m for m in PER_ROW if _has(scans, m)]], height=4.2)
    yield Figure("cost-per-sample", "Cost per row", f"{ROWS} {SLOPES}", per_sample, keys)
    if _has(scans, "log_prob_seconds"):
        metrics = [metric for metric in metrics_of(scans) if _has(scans, metric)]
        grid = [[m for m in metrics if m.endswith(unit)] for unit in ("seconds", "flops")]
        drawn = partial(_panels, scans, grid, sloped=False)
        yield Figure("cost-against-dimension", "Cost against dimension", ROWS, drawn, keys)
    layers = scans[scans["linear_flops"].notna()] if "linear_flops" in scans else scans[:0]
    if layers["series"].nunique() > 1:
        title, note = "The linear layer alone", f"{ALONE} {POINTS} {SLOPES}"
        grid = [[metric for metric in LINEAR if _has(layers, metric)]]
        drawn = partial(_panels, layers, grid, row=False, height=4.2)
        yield Figure("linear-layer", title, note, drawn, keys)
    if _has(scans, "rate_seconds"):
        title = "Where the time of a solve goes"
        yield Figure("solve-breakdown", title, SHARES, partial(_breakdown, scans), keys)


def _has(scans: pd.DataFrame, metric: str) -> bool:
    """Whether a series has the metric at two D, or at one where none has more."""
    if metric not in scans:
        return False
    dims = scans["dim"].groupby(scans["series"]).nunique().max()
    measured = scans["dim"][scans[metric].notna()].groupby(scans["series"]).nunique().max()
    return bool(measured >= min(2, dims))


def _panels(
    done: pd.DataFrame,
    grid: list[list[str]],
    row: bool = True,
    height: float = 3.4,
    sloped: bool = True,
) -> Any:
    """A panel for each metric against D, of a row of data or of a batch."""
    looks = draw.looks(done["series"])
    with draw.figure(len(grid), len(grid[0]), height=height) as (figure, axes):
        for panel, metric in zip(axes.flat, chain.from_iterable(grid), strict=True):
            measured = done[done[metric].notna()].sort_values("dim", kind="stable")
            ends, largest = [], 0.0
            for name, group in measured.groupby("series"):
                costs = _line(panel, group, metric, row, looks[str(name)], str(name))
                largest = max(largest, costs.max())
                slope = _slope(group, metric) if sloped else None
                if slope is not None:
                    ends.append(draw.End(str(name), group["dim"].max(), costs.iloc[-1], slope))
            draw.logarithmic(panel.xaxis, panel.yaxis)
            draw.ticks(panel.xaxis, measured["dim"])
            label = draw.axis_label(metric, row=row)
            panel.set(xlabel="D", ylabel=label, title=METRICS[metric].title)
            if measured["dim"].nunique() > 1:
                end = min(18, measured["dim"].max())
                draw.guide(panel, [end / 3, end], largest, [1, 2, 3])
            if sloped:
                draw.slopes(panel, ends, looks, height - 0.9)
        draw.legend_of(figure, axes.flat, in_order=True)
    return figure


def _line(
    panel: Any, group: pd.DataFrame, metric: str, row: bool, look: dict[str, Any], name: str
) -> pd.Series:
    """Draw a series; its costs, in the unit of the axis."""
    scale = METRICS[metric].scale
    costs = (per_row(group, metric) if row else group[metric]) * scale
    panel.plot(group["dim"], costs, label=name, **look)
    if METRICS[metric].kind == "time":
        raw = group[f"{metric}.values"]
        low, high = (raw.map(lambda v, q=q: np.quantile(v, q)) for q in (0.25, 0.75))
        share = costs / group[metric]  # of a batch's value, in the unit of the axis
        panel.vlines(group["dim"], low * share, high * share, color=look["color"])
    return costs


def _slope(group: pd.DataFrame, metric: str) -> float | None:
    """The exponent at the largest D; None where it is not known, or not that of the asymptote."""
    timed = METRICS[metric].kind == "time"
    grown = growth(group, metric) if timed else counts(group, metric)
    return grown.exponent if grown and grown.reached else None


# ---- the parts of a solve -----------------------------------------------------------------------


def shares(group: pd.DataFrame) -> pd.DataFrame:
    """Of the time of one log_prob, by dimension: the evaluations of field and trace, the rest."""
    layers = group["option.layers"] if "option.layers" in group else pd.Series(1, group.index)
    per_piece = group["log_prob_nfe"] / layers.fillna(1)
    field = per_piece * group["field_seconds"] / group["log_prob_seconds"]
    both = per_piece * group["rate_seconds"] / group["log_prob_seconds"]
    parts = pd.DataFrame({"field": field, "trace": both - field, "solver": 1 - both})
    return parts.clip(lower=0).groupby(group["dim"]).median()


def _breakdown(done: pd.DataFrame) -> Any:
    """The shares at each D, a panel for each series that solves an ODE."""
    solved = done[done["rate_seconds"].notna()]
    groups = [(str(name), shares(group)) for name, group in solved.groupby("series")]
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    with draw.figure(rows, columns, height=2.4, sharey=True) as (figure, axes):
        for panel in axes.flat[len(groups) :]:
            panel.set_visible(False)
        for panel, (name, parts) in zip(axes.flat, groups, strict=False):
            below = np.zeros(len(parts))
            labels = [f"{dim:g}" for dim in parts.index]
            for part, colour in PARTS.items():
                panel.bar(labels, parts[part], bottom=below, label=part, color=colour, width=0.8)
                below += parts[part].to_numpy()
            panel.set(title=name, xlabel="D", ylim=(0, 1.05))
        axes.flat[0].set_ylabel("share of log_prob")
        draw.legend_of(figure, axes.flat[:1])
    return figure


# ---- other sizes --------------------------------------------------------------------------------


def _axes(lines: dict[str, dict[str, pd.DataFrame]]) -> Any:
    """A column for each axis, a row for each metric."""
    looks = draw.looks(name for along in lines.values() for name in along)
    groups = [group for along in lines.values() for group in along.values()]
    metrics = [m for m in ALONG if any(m in g and g[m].notna().all() for g in groups)]
    with draw.figure(len(metrics), len(lines), height=3) as (figure, axes):
        for row, metric in zip(axes, metrics, strict=True):
            for panel, (axis, along) in zip(row, lines.items(), strict=True):
                _relative(panel, along, axis, metric, looks)
            row[0].set_ylabel("relative to the smallest")
        draw.legend_of(figure, axes.flat, in_order=True)
    return figure


def _relative(
    panel: Any, along: dict[str, pd.DataFrame], axis: str, metric: str, looks: dict[str, Any]
) -> None:
    """Medians over those at the smallest size where all are known; slopes of one and two."""
    largest, name = 1.0, sizes.AXES[axis]
    for series, group in along.items():
        costs = group.groupby(axis)[metric].median()
        if costs.isna().any():  # of times, some of which may not be quoted
            continue
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
    panel.set(xlabel=name, title=f"{METRICS[metric].quantity} in {name}")
