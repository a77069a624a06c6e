"""The look of all figures: one colour a series, one style, sizes that fit a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.core.exhibit import Column
from benchmarks.core.naming import STAR

# Okabe and Ito's palette, which colour-blind readers can tell apart, and marks for print in grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A6D3B")
FOREIGN = "#E3001B"  # of the flows of plug-ins
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
FILLS = ("full", "none", "left", "bottom")  # of the marks of the first, second, ... eight series
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "flowgauge",
}


@contextmanager
def figure(rows: int = 1, columns: int = 1, height: float = 3.4, **options: Any) -> Iterator[Any]:
    """A styled Figure and its axes (an array of rows x columns), without any window."""
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(min(4.2 * columns + 0.4, 11), height * rows), layout="constrained")
        yield canvas, canvas.subplots(rows, columns, squeeze=False, **options)


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and mark of each series, the same for the same set of names.

    After each round of the colours the marks move on by one and are filled in another way. Flows of
    plug-ins have a colour of their own, in front of all others.
    """
    every = sorted(set(names))
    foreign = [name for name in every if name.startswith(STAR)]
    styles: dict[str, dict[str, Any]] = {
        name: {"color": FOREIGN, "marker": MARKS[i % len(MARKS)], "zorder": 5}
        for i, name in enumerate(foreign)
    }
    for i, name in enumerate(name for name in every if name not in styles):
        turn, place = divmod(i, len(COLOURS))
        fill = {"fillstyle": FILLS[turn % len(FILLS)]} if turn else {}
        styles[name] = {
            "color": COLOURS[place],
            "marker": MARKS[(place + turn) % len(MARKS)],
            **fill,
        }
    return styles


def axis_label(metric: str, *, row: bool = False, **changes: Any) -> str:
    """Label of a metric's axis, as the header of its column: "log_prob (µs/row)".

    Values are drawn times the metric's ``scale``; ``row`` if they are of one row of data.
    """
    return Column.of(metric, row=row, **changes).header


def legend_below(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend for all panels, in as many columns as the figure is wide enough for.

    The figure grows by the legend's height, so that the panels keep theirs.
    """
    longest = max(map(len, labels), default=0)
    fit = int(figure.get_figwidth() / (0.75 + 0.085 * longest))  # inches: handle, then letters
    columns = max(1, min(fit, len(labels)))
    figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def logarithmic(*axes: Any) -> None:
    """Make these axes logarithmic, with decades as plain text, and 2 and 5 where there are few.

    Matplotlib's own labels are set by its formula parser, which takes longer than all the rest of
    a picture.
    """
    for axis in axes:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_major_formatter(lambda value, _: f"10{_raised(round(math.log10(value)))}")
        axis.set_minor_formatter(partial(_between, axis))


def _between(axis: Any, value: float, position: int | None = None) -> str:
    """The text at a mark between two decades: one of its own where an axis is short."""
    low, high = axis.get_view_interval()
    decade = math.floor(math.log10(value))
    digit = round(value / 10.0**decade)
    return f"{digit}·10{_raised(decade)}" if high < 100 * low and digit in (2, 5) else ""


def ticks(axis: Any, values: Iterable[float]) -> None:
    """Name these values on an axis; every other one where they are many."""
    marks = sorted(set(values))
    marks = marks[:: 2 if len(marks) > 8 else 1]
    axis.set_ticks(marks, [f"{mark:g}" for mark in marks])
    axis.minorticks_off()


def _raised(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def guide(axes: Any, x: Sequence[float], y: float, powers: Sequence[int], name: str = "D") -> None:
    """Thin dotted lines of slope ``powers`` that meet at (x[1], y), marked where they start.

    The axes keep the limits that the data gave them, or a decade below ``y`` where that is lower.
    """
    low, high = axes.get_ylim()
    for power in powers:
        ends = [y * (x[0] / x[1]) ** power, y]
        axes.plot(x, ends, ls=":", lw=1, color="#777777")
        axes.annotate(
            f"{name}{_raised(power)}" if power > 1 else name,
            (x[0], ends[0]),
            fontsize=8,
            color="#555555",
            xytext=(-3, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            annotation_clip=True,
        )
    axes.set_ylim(min(low, y / 10), high)
