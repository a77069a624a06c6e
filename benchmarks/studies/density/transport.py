"""Noise carried to data by a flow: densities and samples at a few steps, and trajectories."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from benchmarks.core.exhibit import Figure
from benchmarks.core.frame import arrays_by_case, holding
from benchmarks.plotting import panels

FLOWS = 6  # flows of a figure of steps
STEPS, GAP = 8, 0.05  # steps abreast, and the gap between two as a share of their side
STEPS_NOTE = (
    "From noise (left) to data (right). Above: the density at that step; below: 800 samples. A "
    "continuous flow is shown at equally spaced times on common axes, any other flow after the "
    "given number of layers on axes of its own, since layers scale. Densities of a flow share "
    "one scale: density over its mean in the panel. At most six flows: those of the slide, then "
    "the best of the others. First seed. A flow of one layer has no intermediate step and is "
    "left out."
)
ABREAST, SETS = 7, 5  # flows and data sets of a figure of trajectories
PATHS, STARTS, ENDS = "#56B4E9", "#000000", "#D55E00"
TRAJECTORIES_NOTE = (
    "Paths of 100 points from noise (black) to data (orange) under each continuous flow, all "
    "panels of a data set on one scale. Length: length of the paths over the distance between "
    "their ends. Energy: integral of the squared speed over that of straight paths at constant "
    "speed. Both are means over the paths, with minimum 1. First seed."
)


def figures(flat: pd.DataFrame) -> list[Figure]:
    """Steps of the flows on each data set, and trajectories of all continuous flows."""
    return [*_steps(flat), *_trajectories(flat)]


def _steps(flat: pd.DataFrame) -> list[Figure]:
    """A figure for each data set, of flows that have something between noise and data."""
    pictures = []
    for name, group in flat.groupby("dataset", sort=False):
        rows = panels.ordered(group)
        held = arrays_by_case(rows, "path_samples")
        rows = rows[[len(own["path_samples"]) > 2 for own in held]]
        rows = rows.iloc[:FLOWS]
        if len(rows):
            title, keys = f"{name}: from noise to data", tuple(rows["key"])
            draw = partial(_draw_steps, rows)
            pictures.append(Figure(f"steps-{name}", title, STEPS_NOTE, draw, keys))
    return pictures


def _draw_steps(rows: pd.DataFrame) -> Any:
    """A pair of rows for each flow, each one panel with all steps: many panels are slow."""
    gaps, across = [0.25, panels.NEXT] * len(rows), STEPS * (1 + GAP) - GAP
    with panels.squares(gaps, 1, 1.1, across) as (figure, axes):
        flows = zip(rows["series"], arrays_by_case(rows), strict=True)
        for (above, below), (name, held) in zip(axes.reshape(-1, 2), flows, strict=True):
            for panel in (above, below):
                panel.set(xlim=(0, across), ylim=(0, 1))
                panel.spines[:].set_visible(False)
            panels.scale(figure, _draw_flow(above, below, held), above)
            panels.label(figure, above, below, str(name))
    return figure


def _draw_flow(above: Any, below: Any, held: dict[str, np.ndarray]) -> Any:
    """The steps of one flow, the first at the left and the last at the right, in unit squares."""
    extents, samples = held["path_extents"].reshape(-1, 2, 2), held["path_samples"].astype(float)
    lengths = np.diff(extents, axis=2)[:, :, 0]
    from benchmarks.evaluation import paths  # here: it imports torch

    densities = paths.densities(held) * lengths.prod(1)[:, None, None]
    top = float(np.median(np.quantile(densities, 0.999, axis=(1, 2))))
    for step, x in enumerate(np.linspace(0, (STEPS - 1) * (1 + GAP), len(densities))):
        image = panels.density(above, densities[step], (x, x + 1, 0, 1), top)
        above.text(x + 0.5, 1.04, _place(held, step), ha="center", fontsize=8)
        inside = (samples[step] - extents[step, :, 0]) / lengths[step]
        inside = inside[((inside > 0) & (inside < 1)).all(1)]
        panels.cloud(below, inside + np.array([x, 0]))
        below.add_patch(Rectangle((x, 0), 1, 1, fill=False, ec="#bbbbbb", clip_on=False))
    return image


def _place(held: dict[str, np.ndarray], step: int) -> str:
    """Where a step is: "noise", "data", or how far between them."""
    if "path_times" in held:
        time = held["path_times"][step]
        return {0.0: "noise", 1.0: "data"}.get(float(time), f"t = {time:.2f}")
    layers = held["path_layers"]
    return {0: "noise", layers[-1]: "data"}.get(layers[step], f"{layers[step]} of {layers[-1]}")


def detours(lines: np.ndarray) -> tuple[float, float]:
    """Length and energy of trajectories (points, n, 2), equally spaced in time, over the least.

    The least are those of straight paths with the same ends and constant speed.
    """
    lines = lines.astype(float)
    steps = np.linalg.norm(np.diff(lines, axis=0), axis=2)
    ends = np.linalg.norm(lines[-1] - lines[0], axis=1)
    energy = len(steps) * np.square(steps).sum(0).mean() / np.square(ends).mean()
    return float(steps.sum(0).mean() / ends.mean()), float(energy)


def _trajectories(flat: pd.DataFrame) -> list[Figure]:
    """All data sets and their continuous flows, a row a set; several figures for many sets."""
    groups = holding(flat, "path_lines").groupby("dataset", sort=False)
    sets = {str(name): panels.ordered(group) for name, group in groups}
    pictures = []
    for number, (chosen, names) in enumerate(panels.sheets(sets, SETS, ABREAST)):
        keys = tuple(key for rows in chosen.values() for key in rows["key"])
        name, draw = "trajectories", partial(_draw_trajectories, chosen, names)
        name = f"{name}-{number + 1}" if number else name
        pictures.append(Figure(name, "Paths from noise to data", TRAJECTORIES_NOTE, draw, keys))
    return pictures


def _draw_trajectories(sets: dict[str, pd.DataFrame], names: list[str]) -> Any:
    """A row of panels a data set, a column a flow."""
    side = min(1.8, 9.2 / len(names))
    with panels.squares([panels.NAME + 0.15] * len(sets), len(names), side) as (figure, axes):
        for row, (name, rows) in zip(axes, sets.items(), strict=True):
            lines = [own["path_lines"] for own in arrays_by_case(rows, "path_lines")]
            held = dict(zip(rows["series"], lines, strict=True))
            points = np.concatenate([paths.reshape(-1, 2) for paths in lines]).astype(float)
            extent = np.stack([points.min(0), points.max(0)], 1).flatten()
            for panel, series in zip(row, names, strict=True):
                if series in held:
                    _draw_paths(panel, held[series].astype(float), extent)
                    numbers = "length {:.2f}\nenergy {:.2f}".format(*detours(held[series]))
                    panels.title(panel, series, numbers, side)
                else:
                    panel.set_visible(False)
            panels.label(figure, row[0], row[0], name)
    return figure


def _draw_paths(panel: Any, lines: np.ndarray, extent: np.ndarray) -> None:
    panel.plot(lines[:, :, 0], lines[:, :, 1], color=PATHS, lw=0.5, alpha=0.8)
    for points, colour in ((lines[0], STARTS), (lines[-1], ENDS)):
        panel.plot(*points.T, ls="", marker="o", ms=1.8, mec="none", color=colour)
    panels.window(panel, extent, 0.03)
