"""Figure of the frontier: test likelihood against what the training took."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import improvement, paired
from benchmarks.analysis.criteria import LEVEL
from benchmarks.core.exhibit import Figure
from benchmarks.core.metrics import defined
from benchmarks.plotting import draw
from benchmarks.studies.frontier.tables import finals, labelled

AXES = ("train_flops", "train_seconds")
LOOK = {"markersize": 4, "lw": 1.2}
NOTE = (
    "Mean test log-likelihood over seeds and splits of the configuration that is best by "
    "validation at each budget, against the FLOPs and the seconds of its training; bands are 95 % "
    "intervals of the mean by Student's t. Dotted: baselines, which are fitted; those far below "
    "all flows are outside of the axes."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Test likelihood against FLOPs and, where they were measured, seconds; a row a data set."""
    scored = [finals(labelled(group)) for _, group in frame.groupby("dataset", sort=False)]
    scored = [rows for rows in scored if rows["seconds"].notna().any()]
    if not scored:
        return []
    keys = tuple(key for rows in scored for key in rows["key"])
    title = "Test likelihood against the cost of training"
    note = NOTE + improvement.note(pd.concat(map(improvement.marked, scored)))
    return [Figure("frontier", title, note, partial(_draw, scored), keys)]


def _draw(sets: list[pd.DataFrame]) -> Any:
    of_flows = {name for rows in sets for name in _of_flows(rows)["model"]}
    every = {name for rows in sets for name in rows["model"]}
    looks = draw.looks(of_flows) | draw.looks(every - of_flows)  # baselines have lines of their own
    timed = all(
        _of_flows(rows).get("train_seconds", pd.Series([np.nan])).notna().all() for rows in sets
    )
    axes_of = AXES if timed else AXES[:1]
    with draw.figure(len(sets), len(axes_of), height=3.2) as (figure, axes):
        for panels, rows in zip(axes, sets, strict=True):
            for panel, axis in zip(panels, axes_of, strict=True):
                _panel(panel, rows, axis, looks)
                label = f"{defined(axis).name} ({defined(axis).display_unit})"
                panel.set(title=str(rows["dataset"].iloc[0]), xlabel=label)
                panel.set_ylabel("test log-likelihood (nats)")
        named = {h.get_label(): h for row in axes for h in row[0].get_legend_handles_labels()[0]}
        draw.legend_below(figure, list(named.values()), list(named))
    return figure


def _of_flows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["seconds"].notna()]


def _panel(panel: Any, rows: pd.DataFrame, axis: str, looks: dict[str, dict[str, Any]]) -> None:
    ends: list[float] = []
    for model, own in _of_flows(rows).groupby("model", sort=False):
        points = [_point(seeds, axis) for _, seeds in own.groupby("seconds")]
        x, y, half = np.array(points).T
        panel.plot(x, y, label=str(model), **looks[str(model)], **LOOK)
        ends += [float((y - half).min()), float((y + half).max())]
        marks = [improvement.mark(seeds) for _, seeds in own.groupby("seconds")]
        for place, mark in zip(zip(x, y, strict=True), marks, strict=True):
            above = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            panel.annotate(mark, place, color=looks[str(model)]["color"], **above)
        panel.fill_between(
            x, y - half, y + half, color=looks[str(model)]["color"], alpha=0.15, lw=0
        )
    lowest = 2 * min(ends) - max(ends)  # of a baseline that the axes show
    for model, own in rows[rows["seconds"].isna()].groupby("model", sort=False):
        colour = looks[str(model)]["color"]
        level = float(own["test_ll"].mean())
        panel.axhline(level, ls=":", lw=0.9, color=colour, label=str(model))
        ends += [level] if level > lowest else []
    margin = 0.05 * (max(ends) - min(ends)) or 1.0
    panel.set_ylim(min(ends) - margin, max(ends) + margin)
    draw.logarithmic(panel.xaxis)


def _point(seeds: pd.DataFrame, axis: str) -> tuple[float, float, float]:
    """Median cost, mean likelihood, and half its interval, 0 of one seed."""
    values = seeds["test_ll"].to_numpy()
    half = paired.over_seeds(seeds, values).half(LEVEL) if len(values) > 1 else 0.0
    return float(seeds[axis].median()), float(seeds["test_ll"].mean()), half
