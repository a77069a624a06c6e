"""Figures of the cost study: cost against each size, a linear layer alone, the parts of a solve."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import counts, growth
from benchmarks.core.exhibit import Column, Figure, per_row
from benchmarks.core.metrics import METRICS
from benchmarks.plotting import draw
from benchmarks.studies.cost.tables import own

PER_ROW = ("log_prob_flops", "log_prob_seconds", "step_saved_bytes")
LINEAR = ("linear_flops", "linear_seconds")  # of a batch: its determinant is taken once
ALONG = ("log_prob_seconds", "log_prob_flops")
DECADES = 50  # range of an axis below which powers of two tell more than those of ten
PARTS = {"field": "#0072B2", "trace": "#E69F00", "solver": "#999999"}
SLOPES = (
    "Points are medians, bars the interquartile range. Dotted: slopes D, D² and D³. At the right: "
    "the exponent d ln cost / d ln D at the largest D, of seconds by the fitted law if it has "
    "reached its asymptote."
)
ROWS = (
    f"The cost of a batch divided by its rows. {SLOPES} Continuous flows take the evaluations "
    "(NFE) that the table lists, measured with untrained fields."
)
ALONE = (
    "One pass of the batch through a flow's invertible linear layers with their log-determinant, "
    f"which is computed once for all rows. {SLOPES}"
)
SHARES = (
    "Shares of the time of one log_prob: evaluations of the field, the traces, and the solver's "
    "own work with the products of weights that it computes once. One evaluation is timed by "
    "itself in the same rounds, times NFE."
)
AXES = (
    "Cost of log_prob relative to that at the smallest size of the axis, all other sizes equal. N "
    "is the batch size, H the width, ℓ the depth, L the number of layers. Dotted: slopes one and "
    "two."
)


def figures(frame: pd.DataFrame) -> Iterator[Figure]:
    """Cost of a row against D, the parts of a solve, and cost against other sizes."""
    done = own(frame[frame["status"] == "done"])
    if done.empty:
        return
    scans = sizes.scans(done)
    metrics = [metric for metric in PER_ROW if _has(scans, metric)]
    yield Figure.of("cost-per-sample", "Cost per row", ROWS, _panels, scans, metrics)
    if _has(scans, "linear_flops"):
        layers = scans[scans["linear_flops"].notna()]
        metrics, title = [m for m in LINEAR if _has(layers, m)], "The linear layer alone"
        if layers["series"].nunique() > 1:
            yield Figure.of("linear-layer", title, ALONE, _panels, layers, metrics, False)
    if _has(scans, "rate_seconds"):
        solves, title = scans[scans["rate_seconds"].notna()], "Where the time of a solve goes"
        yield Figure.of("solve-breakdown", title, SHARES, _breakdown, solves)
    if lines := sizes.lines(done):
        groups = pd.concat([group for along in lines.values() for group in along.values()])
        title = "Cost against N, H, depth and layers"
        yield Figure.of("cost-axes", title, AXES, _axes, groups, lines)


def _has(scans: pd.DataFrame, metric: str) -> bool:
    """Whether a series has the metric at two D, or at one where none has more."""
    known = scans[scans[metric].notna()] if metric in scans else scans[:0]
    every, measured = (rows.groupby("series")["dim"].nunique().max() for rows in (scans, known))
    return bool(measured >= min(2, every))


def _panels(done: pd.DataFrame, metrics: Sequence[str], row: bool = True) -> Any:
    """A panel for each metric against D, of a row of data or of a batch."""
    looks = draw.looks(done["series"])
    with draw.figure(1, len(metrics), height=4.2) as (figure, axes):
        for panel, metric in zip(axes.flat, metrics, strict=True):
            measured = done[done[metric].notna()].sort_values("dim", kind="stable")
            costs = per_row(measured, metric) if row else measured[metric]
            measured = measured.assign(cost=costs * METRICS[metric].scale)
            draw.lines(panel, measured, "dim", "cost", looks)
            timed, ends = METRICS[metric].kind == "time", []
            for name, group in measured.groupby("series"):
                if timed:
                    raw = group[f"{metric}.values"].map(lambda v: np.quantile(v, [0.25, 0.75]))
                    share = group["cost"] / group[metric]  # of a batch, in the unit of the axis
                    low, high = raw.str[0] * share, raw.str[1] * share
                    panel.vlines(group["dim"], low, high, color=looks[str(name)]["color"])
                grown = growth(group, metric) if timed else counts(group, metric)
                if grown and grown.reached:
                    text = f"{grown.exponent:.1f}"
                    ends.append(draw.End(str(name), group["cost"].iloc[-1], text))
            labels = {"ylabel": Column.of(metric, row=row).header, "title": METRICS[metric].title}
            draw.finish(panel, marks=measured["dim"], xlabel="D", **labels)
            if measured["dim"].nunique() > 1:
                end = min(18, measured["dim"].max())
                draw.guide(panel, [end / 3, end], measured["cost"].max(), [1, 2, 3])
            draw.label_ends(panel, ends, looks, 3.3)
        draw.legend_of(figure, axes.flat, in_order=True)
    return figure


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
    groups = list(done.groupby("series"))
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    with draw.figure(rows, columns, height=2.4, sharey=True) as (figure, axes):
        for panel in axes.flat[len(groups) :]:
            panel.set_visible(False)
        for panel, (name, group) in zip(axes.flat, groups, strict=False):
            parts = shares(group)
            below = np.zeros(len(parts))
            labels = [f"{dim:g}" for dim in parts.index]
            for part, colour in PARTS.items():
                panel.bar(labels, parts[part], bottom=below, label=part, color=colour, width=0.8)
                below += parts[part].to_numpy()
            panel.set(title=name, xlabel="D", ylim=(0, 1.05))
        axes.flat[0].set_ylabel("share of log_prob")
        draw.legend_of(figure, axes.flat[:1])
    return figure


def _axes(rows: pd.DataFrame, lines: dict[str, dict[str, pd.DataFrame]]) -> Any:
    """A column for each axis, a row for each metric: medians over those at the smallest size."""
    looks = draw.looks(name for along in lines.values() for name in along)
    metrics = [metric for metric in ALONG if metric in rows and rows[metric].notna().any()]
    with draw.figure(len(metrics), len(lines), height=3) as (figure, axes):
        for row, metric in zip(axes, metrics, strict=True):
            for panel, (axis, along) in zip(row, lines.items(), strict=True):
                largest, name = 1.0, sizes.AXES[axis]
                for series, group in along.items():
                    costs = group.groupby(axis)[metric].median()
                    if costs.notna().all():  # some times may not be quoted
                        costs /= costs.iloc[0]
                        panel.plot(costs.index, costs, label=series, **looks[series])
                        largest = max(largest, costs.max())
                marks = pd.concat(group[axis] for group in along.values())
                title = f"{METRICS[metric].quantity} in {name}"
                draw.finish(panel, marks=marks, xlabel=name, title=title)
                if largest < DECADES:
                    draw.ticks(panel.yaxis, 2.0 ** np.arange(int(np.log2(largest)) + 1))
                ends = [marks.min() * (marks.max() / marks.min()) ** x for x in (0.15, 0.35)]
                draw.guide(panel, ends, largest, [1, 2], name)
            row[0].set_ylabel("relative to the smallest")
        draw.legend_of(figure, axes.flat, in_order=True)
    return figure
