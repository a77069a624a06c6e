"""Portraits of two-dimensional densities beside their data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analysis import improvement
from benchmarks.core.exhibit import Figure
from benchmarks.core.store import arrays
from benchmarks.plotting import panels

FLOWS, SETS = 6, 5  # flows beside the data, and data sets, of a figure of several sets
ABREAST = 6  # panels of a row in a figure of one set, the data among them
NOTE = (
    "Above: the density (for the data a histogram of the training set), all panels of a data set "
    "on one scale, in 1/area; grey: outside of the data's square, not evaluated. Below: samples "
    "(for the data rows of the test set). Numbers are test log-likelihoods in nats. First seed."
)


class Portrait(NamedTuple):
    """Contents of a pair of panels."""

    name: str
    below: str  # the line below the name
    image: np.ndarray  # density
    samples: np.ndarray


def figures(flat: pd.DataFrame) -> list[Figure]:
    """All data sets at a glance, then each with all of its flows; several figures for many sets."""
    sets = {str(name): panels.ordered(group) for name, group in flat.groupby("dataset", sort=False)}
    pictures = []
    within: dict[str, str] = {}
    for number, (chosen, names) in enumerate(panels.sheets(sets, SETS, FLOWS)):
        keys = tuple(key for rows in chosen.values() for key in rows["key"])
        name = f"pictures-{number + 1}" if number else "pictures"
        within |= {data: name for data in chosen if set(sets[data]["series"]) <= {*names}}
        draw = partial(_glance, chosen, names)
        note = NOTE + improvement.note(pd.concat(chosen.values()))
        pictures.append(Figure(name, "Data and densities", note, draw, keys))
    for name, rows in sets.items():
        title = f"{name}: data and densities"
        keys = tuple(rows["key"])
        note, whole = NOTE + improvement.note(rows), within.get(name, "")
        draw = partial(_each, rows)
        pictures.append(Figure(f"picture-{name}", title, note, draw, keys, within=whole))
    return pictures


def _glance(sets: dict[str, pd.DataFrame], flows: list[str]) -> Any:
    """A pair of rows of panels a data set, a column a flow."""
    names = ["Data", *flows]
    side = min(1.5, 9.2 / len(names))
    with panels.squares([panels.NAME, panels.NEXT] * len(sets), len(names), side) as page:
        figure, axes = page
        for number, (name, rows) in enumerate(sets.items()):
            held, extent = _portraits(rows)
            pair = axes[2 * number : 2 * number + 2]
            _draw(figure, pair, [held.get(name) for name in names], extent, held["Data"], side)
            panels.label(figure, pair[0, 0], pair[1, 0], name)
    return figure


def _each(rows: pd.DataFrame) -> Any:
    """All flows of one data set, a pair of rows of panels for every `ABREAST`."""
    held, extent = _portraits(rows)
    portraits: list[Portrait | None] = list(held.values())
    columns = min(ABREAST, len(portraits))
    lines = -(-len(portraits) // columns)
    portraits += [None] * (columns * lines - len(portraits))
    side = min(1.75, 9.2 / columns)
    with panels.squares([panels.NAME, panels.NEXT] * lines, columns, side) as (figure, axes):
        for line in range(lines):
            pair = axes[2 * line : 2 * line + 2]
            part = portraits[columns * line : columns * (line + 1)]
            _draw(figure, pair, part, extent, held["Data"], side)
    return figure


def _portraits(rows: pd.DataFrame) -> tuple[dict[str, Portrait], np.ndarray]:
    """The data and each flow by name, and the extent of the images."""
    records = {str(row["series"]): (row, arrays(row)) for _, row in rows.iterrows()}
    _, first = next(iter(records.values()))
    portraits = {"Data": Portrait("Data", "", first["data_image"], first["data_samples"])}
    for name, (row, held) in records.items():
        image = np.exp(held["image"].astype(float))
        likelihood = f"{row['test_ll']:.3f}".replace("-", "−")
        likelihood = f"{likelihood} {row.get(improvement.MARKS, '')}".strip()
        samples = held["samples"][: len(first["data_samples"])]
        portraits[name] = Portrait(name, likelihood, image, samples)
    return portraits, first["extent"]


def _draw(
    figure: Any,
    axes: np.ndarray,
    portraits: Sequence[Portrait | None],
    extent: np.ndarray,
    data: Portrait,
    side: float,
) -> None:
    """Draw into two rows of panels: densities above, samples below, all on the data's scale."""
    image = data.image.astype(float)
    top, last = float(np.quantile(image[image > 0], 0.95)), None
    for (above, below), portrait in zip(axes.T, portraits, strict=True):
        if portrait is None:
            above.set_visible(False)
            below.set_visible(False)
            continue
        last = (panels.density(above, portrait.image, extent, top), above)
        panels.cloud(below, portrait.samples)
        above.set_facecolor(panels.UNSEEN)  # beyond an image that is no square
        for panel in (above, below):
            panels.window(panel, extent)
        panels.title(above, portrait.name, portrait.below, side)
    if last:
        panels.scale(figure, *last)
