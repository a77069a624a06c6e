"""Cost against dimension, drawn: what a sample costs, and what a solve is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import draw

Said = tuple[str, str, str]  # name, title and note of a figure


def of(done: pd.DataFrame, calls: Mapping[str, str]) -> list[tuple[Said, Callable[[], Any]]]:
    """Every figure that the records have something for, and how it is drawn."""
    found: list[tuple[Said, Callable[[], Any]]] = []
    timed = "log_prob_seconds" in done
    panels = [
        (f"log_prob_{metric}" if metric != "saved_bytes" else "step_saved_bytes", *rest)
        for metric, *rest in (
            ("flops", "FLOP", "log_prob: FLOPs"),
            ("seconds", "s", "log_prob: seconds"),
            ("saved_bytes", "B", "training step: bytes kept for backward"),
        )
    ]
    panels = [panel for panel in panels if panel[0] in done]
    note = (
        "Per sample: a batch's figure divided by its rows. Points are medians, bars the middle "
        "half of the raw samples. Dotted: slopes D, D² and D³. FLOPs count products, LU and "
        "triangular solves. Continuous flows at the fixed number of evaluations in the table."
    )
    one = ("cost-per-sample", "What a sample costs", note)
    found.append((one, lambda: _panels(done, [panels])))
    if timed:
        grid = [
            [(f"{call}_{metric}", unit, title) for call, title in calls.items()]
            for metric, unit in (("seconds", "s"), ("flops", "FLOP"))
        ]
        each = ("cost-against-dimension", "Cost against dimension", note)
        found.append((each, lambda: _panels(done, grid)))
    if "rate_seconds" in done and done["rate_seconds"].notna().any():
        note = (
            "Shares of the time of one log_prob: its evaluations of the field, of the trace beside "
            "the field, and the rest, which is the solver's own. One evaluation is timed alone, in "
            "the same rounds, and multiplied by their number."
        )
        where = ("solve-breakdown", "Where the time of a solve goes", note)
        found.append((where, lambda: _breakdown(done)))
    return found


def _panels(done: pd.DataFrame, grid: list[list[Any]]) -> Any:
    looks = draw.looks(done["series"])
    with draw.figure(len(grid), len(grid[0])) as (figure, axes):
        for panel, (metric, unit, title) in zip(axes.flat, chain.from_iterable(grid), strict=True):
            for name, group in done[done[metric].notna()].groupby("series"):
                _line(panel, group.sort_values("dim"), metric, looks[str(name)], str(name))
            draw.logarithmic(panel.xaxis, panel.yaxis)
            draw.ticks(panel.xaxis, done["dim"])
            panel.set(xlabel="D", ylabel=f"{unit} per sample", title=title)
            largest = (done[metric] / done["batch"]).max()
            draw.guide(panel, [6, 18], largest, [1, 2, 3])
        draw.legend_below(figure, *axes.flat[0].get_legend_handles_labels())
    return figure


def _line(panel: Any, group: pd.DataFrame, metric: str, look: dict[str, Any], name: str) -> None:
    scale = 1 / group["batch"]
    panel.plot(group["dim"], group[metric] * scale, label=name, **look)
    if metric.endswith("_seconds"):
        raw = group[f"{metric}.values"]
        low, high = (raw.map(lambda v, q=q: np.quantile(v, q)) for q in (0.25, 0.75))
        panel.vlines(group["dim"], low * scale, high * scale, color=look["color"])


PARTS = {"field": "#0072B2", "trace": "#E69F00", "solver": "#999999"}


def shares(group: pd.DataFrame) -> pd.DataFrame:
    """Of the time of one log_prob, by dimension: the evaluations of field and trace, the rest."""
    layers = group["option.layers"] if "option.layers" in group else pd.Series(1, group.index)
    per_piece = group["log_prob_nfe"] / layers.fillna(1)
    field = per_piece * group["field_seconds"] / group["log_prob_seconds"]
    both = per_piece * group["rate_seconds"] / group["log_prob_seconds"]
    parts = pd.DataFrame({"field": field, "trace": both - field, "solver": 1 - both})
    return parts.clip(lower=0).groupby(group["dim"]).median()


def _breakdown(done: pd.DataFrame) -> Any:
    solved = done[done["rate_seconds"].notna()]
    groups = [(str(name), shares(group)) for name, group in solved.groupby("series")]
    columns = min(3, len(groups))
    with draw.figure(-(-len(groups) // columns), columns, height=2.4, sharey=True) as (
        figure,
        axes,
    ):
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
        draw.legend_below(figure, *axes.flat[0].get_legend_handles_labels())
    return figure
