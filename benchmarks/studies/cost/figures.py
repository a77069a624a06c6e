"""Cost against dimension, drawn: what a sample costs, and a linear layer alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analysis import growth
from benchmarks.plotting import draw, slopes
from benchmarks.studies.cost import breakdown

Said = tuple[str, str, str]  # name, title and note of a figure


class Panel(NamedTuple):
    """A metric against D: what it is called, and whether it is a sample's or the whole batch's."""

    metric: str
    unit: str
    title: str
    per: str = "sample"


ONE = (
    Panel("log_prob_flops", "FLOP", "log_prob: FLOPs"),
    Panel("log_prob_seconds", "s", "log_prob: seconds"),
    Panel("step_saved_bytes", "B", "training step: bytes kept for backward"),
)
LINEAR = (
    Panel("linear_flops", "FLOP", "linear layers: FLOPs", "batch"),
    Panel("linear_seconds", "s", "linear layers: seconds", "batch"),
)
POINTS = (
    "Points are medians, bars the middle half of the raw samples. Dotted: slopes D, D² and D³. "
    "FLOPs count products, LU and triangular solves."
)
PER_SAMPLE = (
    f"Per sample: a batch's figure divided by its rows. {POINTS} Continuous flows at the number of "
    "evaluations (NFE) that the table says, which is that of untrained fields."
)
SLOPES = (
    "Dashed, with its number: d ln cost / d ln D at the largest D, of exact counts or, for "
    "seconds, of the fitted law where that has reached its asymptote. It takes four sizes or more."
)
ALONE = (
    "One pass of the batch through the invertible linear layers of a flow, with its "
    "log-determinant, which is taken once for all rows."
)


def of(done: pd.DataFrame, calls: Mapping[str, str]) -> list[tuple[Said, Callable[[], Any]]]:
    """Every figure that the records have something for, and how it is drawn."""
    found: list[tuple[Said, Callable[[], Any]]] = []
    one = ("cost-per-sample", "What a sample costs", f"{PER_SAMPLE} {SLOPES}")
    found.append((one, lambda: _panels(done, [_present(done, ONE)], height=4.2)))
    if _has(done, "log_prob_seconds"):
        grid = [
            [Panel(f"{call}_{metric}", unit, title) for call, title in calls.items()]
            for metric, unit in (("seconds", "s"), ("flops", "FLOP"))
        ]
        each = ("cost-against-dimension", "Cost against dimension", PER_SAMPLE)
        found.append((each, lambda: _panels(done, grid, sloped=False)))
    layers = done[done["linear_flops"].notna()] if "linear_flops" in done else done[:0]
    if layers["series"].nunique() > 1:
        alone = ("linear-layer", "The linear layer alone", f"{ALONE} {POINTS} {SLOPES}")
        found.append((alone, lambda: _panels(layers, [_present(layers, LINEAR)], height=4.2)))
    if _has(done, "rate_seconds"):
        where = ("solve-breakdown", "Where the time of a solve goes", breakdown.NOTE)
        found.append((where, lambda: breakdown.picture(done)))
    return found


def _has(done: pd.DataFrame, metric: str) -> bool:
    return metric in done and bool(done[metric].notna().any())


def _present(done: pd.DataFrame, panels: Iterable[Panel]) -> list[Panel]:
    return [panel for panel in panels if _has(done, panel.metric)]


def _panels(
    done: pd.DataFrame, grid: list[list[Panel]], height: float = 3.4, sloped: bool = True
) -> Any:
    looks = draw.looks(done["series"])
    handles: dict[str, Any] = {}
    with draw.figure(len(grid), len(grid[0]), height=height) as (figure, axes):
        for panel, shown in zip(axes.flat, chain.from_iterable(grid), strict=True):
            known = done[done[shown.metric].notna()].sort_values("dim", kind="stable")
            ends, largest = [], 0.0
            for name, group in known.groupby("series"):
                costs = _line(panel, group, shown, looks[str(name)], str(name))
                largest = max(largest, costs.max())
                slope = _slope(group, shown.metric) if sloped else None
                if slope is not None:
                    ends.append(slopes.End(str(name), group["dim"].max(), costs.iloc[-1], slope))
            draw.logarithmic(panel.xaxis, panel.yaxis)
            draw.ticks(panel.xaxis, known["dim"])
            panel.set(xlabel="D", ylabel=f"{shown.unit} per {shown.per}", title=shown.title)
            if known["dim"].nunique() > 1:
                end = min(18, known["dim"].max())
                draw.guide(panel, [end / 3, end], largest, [1, 2, 3])
            if sloped:
                slopes.draw(panel, ends, looks, height - 0.9)
            handles.update(dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True)))
        draw.legend_below(figure, [handles[name] for name in sorted(handles)], sorted(handles))
    return figure


def _line(
    panel: Any, group: pd.DataFrame, shown: Panel, look: dict[str, Any], name: str
) -> pd.Series:
    """Draw a series; its costs."""
    scale = 1 / group["batch"] if shown.per == "sample" else 1.0
    costs = group[shown.metric] * scale
    panel.plot(group["dim"], costs, label=name, **look)
    if shown.metric.endswith("_seconds"):
        raw = group[f"{shown.metric}.values"]
        low, high = (raw.map(lambda v, q=q: np.quantile(v, q)) for q in (0.25, 0.75))
        panel.vlines(group["dim"], low * scale, high * scale, color=look["color"])
    return costs


def _slope(group: pd.DataFrame, metric: str) -> float | None:
    """The exponent at the largest D; None where it is not known, or not that of the asymptote."""
    call, _, kind = metric.rpartition("_")
    if kind != "seconds":
        counted = growth.counts(group, metric)
        return counted.exponent if counted else None
    timed = growth.seconds(group, call, growth.flops(group, call))
    return timed.law.exponent if timed and timed.reached else None
