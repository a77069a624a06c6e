"""Panels of two-dimensional densities: squares in rows, and what is drawn into one."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.core.naming import named
from benchmarks.plotting import draw

SLIDE = ("realnvp", "glow", "cnf", "ffjord")  # what comes first, in this order
COLOURS = "viridis"  # even in lightness, in print and to colour-blind readers
UNSEEN = "#d9d9d9"  # where a density was not evaluated
DOTS = {"ls": "", "marker": ".", "ms": 1.2, "mec": "none", "color": "#333333", "alpha": 0.7}
NAME = 0.45  # inches above a row of panels with titles
NEXT = 0.06  # inches above a row that belongs to the one above it
LEFT, RIGHT = 0.3, 0.55


def ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """The first seed of each series: by data set the slide's flows, then others by likelihood.

    The column ``series`` has their names.
    """
    every = [frame.iloc[:0]]
    for _, group in frame.groupby("dataset", sort=False):
        rows = named(group).sort_values("seed", kind="stable").drop_duplicates("series")
        place = rows["flow"].map(lambda flow: SLIDE.index(flow) if flow in SLIDE else len(SLIDE))
        rows = rows.assign(place=place, behind=-rows["test_ll"].where(place == len(SLIDE)))
        every.append(rows.sort_values(["place", "behind"], kind="stable"))
    return pd.concat(every)


def sheets(rows: pd.DataFrame, length: int, flows: int) -> Iterator[tuple[pd.DataFrame, list[str]]]:
    """Yield parts of ``length`` data sets, each with the names of at most ``flows`` flows.

    ``rows`` is the result of `ordered`. A part keeps only the rows of its named flows. The slide's
    flows come first, the others by their number of data sets, then by mean likelihood.
    """
    sets = list(rows["dataset"].unique())
    for start in range(0, len(sets), length):
        part = rows[rows["dataset"].isin(sets[start : start + length])]
        summaries = part.groupby("series", sort=False).agg(
            place=("place", "first"), sets=("key", "size"), ll=("test_ll", "mean")
        )
        order = summaries.sort_values(["place", "sets", "ll"], ascending=[True, False, False])
        names = list(order.index[:flows])
        yield part[part["series"].isin(names)], names


@contextmanager
def squares(
    gaps: Sequence[float], columns: int, side: float, across: float = 1.0
) -> Iterator[tuple[Any, np.ndarray]]:
    """A Figure with a row of panels for each gap above one, in inches, and its axes.

    Panels are ``side`` inches high and ``across`` times as wide.
    """
    wide = side * across
    width = LEFT + columns * wide + (columns - 1) * NEXT + RIGHT
    height = sum(gaps) + len(gaps) * side + 0.1
    axes = np.empty((len(gaps), columns), dtype=object)
    with matplotlib.rc_context(draw.STYLE):
        figure, y = Figure(figsize=(width, height)), height
        for row, gap in enumerate(gaps):
            y -= gap + side
            for column in range(columns):
                x = LEFT + column * (wide + NEXT)
                place = (x / width, y / height, wide / width, side / height)
                axes[row, column] = panel = figure.add_axes(place)
                panel.set(xticks=[], yticks=[])
                panel.grid(False)
                for spine in panel.spines.values():
                    spine.set(visible=True, color="#bbbbbb")
        yield figure, axes


def density(panel: Any, image: np.ndarray, extent: Any, top: float) -> Any:
    """A density (rows from below) on a scale from 0 to ``top``."""
    look = {"cmap": COLOURS, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    return panel.imshow(image.astype(float), extent=tuple(extent), vmin=0, vmax=top, **look)


def cloud(panel: Any, samples: np.ndarray) -> None:
    """Samples (n, 2) as dots."""
    panel.plot(*samples.astype(float).T, rasterized=True, **DOTS)


def window(panel: Any, extent: Any, margin: float = 0.0) -> None:
    """Show the smallest square around (x0, x1, y0, y1), so that no panel is stretched."""
    ends = np.reshape(extent, (2, 2)).astype(float)
    middle, half = ends.mean(1), np.ptp(ends, axis=1).max() * (0.5 + margin)
    (x0, y0), (x1, y1) = middle - half, middle + half
    panel.set(xlim=(x0, x1), ylim=(y0, y1))


def scale(figure: Any, image: Any, beside: Any) -> None:
    """A bar of the colours at the right of the last panel of a row."""
    box = beside.get_position()
    inch = 1 / figure.get_figwidth()
    bar = figure.add_axes((box.x1 + 0.06 * inch, box.y0, 0.07 * inch, box.height))
    figure.colorbar(image, cax=bar, ticks=image.get_clim()).outline.set_visible(False)
    bar.set_yticklabels([f"{end:.2g}" for end in image.get_clim()], fontsize=7)
    bar.tick_params(length=0, pad=2)


def label(figure: Any, upper: Any, lower: Any, words: str) -> None:
    """Write ``words`` upright at the left of the rows of panels from ``upper`` to ``lower``."""
    top, bottom = upper.get_position(), lower.get_position()
    x = top.x0 - 0.1 / figure.get_figwidth()
    place = {"rotation": 90, "ha": "right", "va": "center"}
    figure.text(x, (top.y1 + bottom.y0) / 2, words, **place)


def title(panel: Any, name: str, below: str, side: float) -> None:
    """A name that is cut into lines as wide as the panel, and a line below it."""
    lines = textwrap.wrap(name, max(12, int(side / 0.075)))[:2]
    panel.set_title("\n".join([*lines, below]), fontsize=8, pad=3)
