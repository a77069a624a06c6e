"""Paths of noise to data under continuous flows, and how straight they are, from records alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import Figure
from benchmarks.core.store import arrays
from benchmarks.plotting import panels

FLOWS = 7  # of a row
SETS = 5  # of a figure
PATHS, STARTS, ENDS = "#56B4E9", "#000000", "#D55E00"
NOTE = (
    "The paths of 100 points from noise (black) to data (orange) under each continuous flow, on "
    "one scale a set. Length: of the paths over the distance of their ends. Energy: the integral "
    "of the squared speed over that of straight paths of constant speed; means over the paths, 1 "
    "the least that there is. The first seed."
)


def detours(lines: np.ndarray) -> tuple[float, float]:
    """Length and energy of trajectories (points, n, 2), equally spaced in time, over the least.

    The least have paths with the same ends that are straight, and of constant speed.
    """
    lines = lines.astype(float)
    steps = np.linalg.norm(np.diff(lines, axis=0), axis=2)
    ends = np.linalg.norm(lines[-1] - lines[0], axis=1)
    energy = len(steps) * np.square(steps).sum(0).mean() / np.square(ends).mean()
    return float(steps.sum(0).mean() / ends.mean()), float(energy)


def figures(flat: pd.DataFrame) -> list[Figure]:
    """All sets and their continuous flows, a row a set; a few figures where they are many."""
    groups = panels.holding(flat, "path_lines").groupby("dataset", sort=False)
    sets = {str(name): panels.ordered(group) for name, group in groups}
    made = []
    for number, (chosen, names) in enumerate(panels.sheets(sets, SETS, FLOWS)):
        keys = tuple(key for rows in chosen.values() for key in rows["key"])
        name, drawn = "trajectories", partial(_draw, chosen, names)
        name = f"{name}-{number + 1}" if number else name
        made.append(Figure(name, "Paths from noise to data", NOTE, drawn, keys))
    return made


def _draw(sets: dict[str, pd.DataFrame], names: list[str]) -> Any:
    """A row of panels a set, a column a flow."""
    side = min(1.8, 9.2 / len(names))
    with panels.squares([panels.NAME + 0.15] * len(sets), len(names), side) as (figure, axes):
        for line, (name, rows) in zip(axes, sets.items(), strict=True):
            held = {row["series"]: arrays(row)["path_lines"] for _, row in rows.iterrows()}
            points = np.concatenate([lines.reshape(-1, 2) for lines in held.values()]).astype(float)
            extent = np.stack([points.min(0), points.max(0)], 1).flatten()
            for panel, series in zip(line, names, strict=True):
                if series in held:
                    _paths(panel, held[series].astype(float), extent)
                    told = "length {:.2f}\nenergy {:.2f}".format(*detours(held[series]))
                    panels.title(panel, series, told, side)
                else:
                    panel.set_visible(False)
            panels.label(figure, line[0], line[0], name)
    return figure


def _paths(panel: Any, lines: np.ndarray, extent: np.ndarray) -> None:
    panel.plot(lines[:, :, 0], lines[:, :, 1], color=PATHS, lw=0.5, alpha=0.8)
    for points, colour in ((lines[0], STARTS), (lines[-1], ENDS)):
        panel.plot(*points.T, ls="", marker="o", ms=1.8, mec="none", color=colour)
    panels.window(panel, extent, 0.03)
