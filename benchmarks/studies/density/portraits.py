"""Two-dimensional densities beside their data, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import Figure
from benchmarks.core.store import arrays
from benchmarks.plotting import panels

FLOWS = 6  # beside the data, where the figure is of several sets
SETS = 5  # of one figure
ABREAST = 6  # in a figure of one set, the data among them
NOTE = (
    "Above: the density (data: a histogram of the training set), all panels of a set on one scale, "
    "in 1/area; grey is beyond the data, where it is not evaluated. Below: samples (data: rows of "
    "the test set). Numbers are test log-likelihoods in nats, of the first seed."
)


class Portrait(NamedTuple):
    """What a pair of panels shows."""

    name: str
    below: str  # the line below the name
    image: np.ndarray  # density
    samples: np.ndarray


def figures(flat: pd.DataFrame) -> list[Figure]:
    """All sets at a glance, in a few figures where they are many; then each with all its flows."""
    sets = {str(name): panels.ordered(group) for name, group in flat.groupby("dataset", sort=False)}
    made = []
    for number, (chosen, names) in enumerate(panels.sheets(sets, SETS, FLOWS)):
        keys = tuple(key for rows in chosen.values() for key in rows["key"])
        name = f"pictures-{number + 1}" if number else "pictures"
        drawn = partial(_glance, chosen, names)
        made.append(Figure(name, "Data and densities", NOTE, drawn, keys))
    for name, rows in sets.items():
        title = f"{name}: data and densities"
        keys = tuple(rows["key"])
        made.append(Figure(f"picture-{name}", title, NOTE, partial(_each, rows), keys))
    return made


def _glance(sets: dict[str, pd.DataFrame], flows: list[str]) -> Any:
    """A pair of rows of panels a set, a column a flow."""
    names = ["Data", *flows]
    side = min(1.5, 9.2 / len(names))
    with panels.squares([panels.NAME, panels.NEXT] * len(sets), len(names), side) as made:
        figure, axes = made
        for number, (name, shown) in enumerate(sets.items()):
            held, extent = _portraits(shown)
            pair = axes[2 * number : 2 * number + 2]
            _draw(figure, pair, [held.get(name) for name in names], extent, held["Data"], side)
            panels.label(figure, pair[0, 0], pair[1, 0], name)
    return figure


def _each(rows: pd.DataFrame) -> Any:
    """All flows of one set, a pair of rows of panels for every few."""
    held, extent = _portraits(rows)
    shown: list[Portrait | None] = list(held.values())
    columns = min(ABREAST, len(shown))
    lines = -(-len(shown) // columns)
    shown += [None] * (columns * lines - len(shown))
    side = min(1.75, 9.2 / columns)
    with panels.squares([panels.NAME, panels.NEXT] * lines, columns, side) as (figure, axes):
        for line in range(lines):
            pair, part = axes[2 * line : 2 * line + 2], shown[columns * line : columns * (line + 1)]
            _draw(figure, pair, part, extent, held["Data"], side)
    return figure


def _portraits(rows: pd.DataFrame) -> tuple[dict[str, Portrait], np.ndarray]:
    """The data and each flow by name, and the extent of the images."""
    records = {str(row["series"]): (row, arrays(row)) for _, row in rows.iterrows()}
    _, first = next(iter(records.values()))
    found = {"Data": Portrait("Data", "", first["data_image"], first["data_samples"])}
    for name, (row, held) in records.items():
        image = np.exp(held["image"].astype(float))
        told = f"{row['test_ll']:.3f}".replace("-", "−")
        samples = held["samples"][: len(first["data_samples"])]
        found[name] = Portrait(name, told, image, samples)
    return found, first["extent"]


def _draw(
    figure: Any,
    axes: np.ndarray,
    shown: Sequence[Portrait | None],
    extent: np.ndarray,
    data: Portrait,
    side: float,
) -> None:
    """Into two rows of panels: densities above, samples below, all on the scale of the data."""
    image = data.image.astype(float)
    top, last = float(np.quantile(image[image > 0], 0.95)), None
    for (above, below), portrait in zip(axes.T, shown, strict=True):
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
