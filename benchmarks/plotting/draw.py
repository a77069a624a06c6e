"""The look of all figures: one colour a series, one style, sizes that fit a page."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.optimize import isotonic_regression

from benchmarks.core.formats import SUPERSCRIPTS, power_of_ten
from benchmarks.core.naming import STAR

# Okabe and Ito's palette, which colour-blind readers can tell apart, and marks for print in grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A6D3B")
FOREIGN = "#E3001B"  # of the flows of plug-ins
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
FILLS = ("full", "none", "left", "bottom")  # of the marks of the first, second, ... eight series
SPAN = 1.7  # powers of ten, below which they alone are too few to read an axis by
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
        styles[name] = {"color": COLOURS[place], "marker": MARKS[(place + turn) % len(MARKS)]}
        if turn:
            styles[name]["fillstyle"] = FILLS[turn % len(FILLS)]
    return styles


def lines(
    panel: Any, rows: pd.DataFrame, x: str, y: str, looks: Mapping[str, Any], **style: Any
) -> None:
    """A line for each series of the rows, through its points in the order of x."""
    for name, group in rows.sort_values(x, kind="stable").groupby("series"):
        panel.plot(group[x], group[y], **{**looks[str(name)], "label": name, **style})


def legend_below(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend for all panels, by whose height the figure grows."""
    longest = max(map(len, labels), default=0)
    fit = int(figure.get_figwidth() / (0.75 + 0.085 * longest))  # inches: handle, then letters
    columns = max(1, min(fit, len(labels)))
    figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def legend_of(figure: Any, panels: Iterable[Any], *, in_order: bool = False) -> None:
    """The legend of all labelled series of some panels, each once, by name if ``in_order``."""
    handles: dict[str, Any] = {}
    for panel in panels:
        handles |= {handle.get_label(): handle for handle in panel.get_legend_handles_labels()[0]}
    names = sorted(handles) if in_order else list(handles)
    legend_below(figure, [handles[name] for name in names], names)


def logarithmic(*axes: Any) -> None:
    """Make these axes logarithmic after drawing, with decades as plain text.

    An axis that spans less than `SPAN` decades has ticks at 1, 2 and 5, and so has a y axis of less
    than two. Matplotlib's own labels are set by its formula parser, which takes longer than all the
    rest of a picture.
    """
    for axis in axes:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        low, high = axis.get_view_interval()
        short = 0 < low < high and math.log10(high / low) < SPAN
        if short:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _, plain=short: _text(value, plain))
        if not short and axis.axis_name == "y" and high < 100 * low:
            axis.set_minor_locator(LogLocator(subs=(2, 5)))
            axis.set_minor_formatter(lambda value, _: _text(value, plain=False))
        else:
            axis.set_minor_formatter(NullFormatter())


def finish(panel: Any, *, log: str = "xy", marks: Iterable[float] = (), **labels: Any) -> None:
    """Label a panel that is drawn; ``log`` names logarithmic axes, ``marks`` are ticks of x."""
    logarithmic(*(getattr(panel, f"{name}axis") for name in log))
    if marks := sorted(set(marks)):
        ticks(panel.xaxis, marks)
    panel.set(**labels)


def _text(value: float, plain: bool) -> str:
    """A digit times a power of ten; a number near one as it is where that is ``plain``."""
    if plain and 1e-3 <= value < 1e4:
        return f"{value:g}"
    digit, _, exponent = f"{value:.0e}".partition("e")
    return f"{f'{digit}·' if digit != '1' else ''}{power_of_ten(int(exponent))}"


def ticks(axis: Any, values: Iterable[float]) -> None:
    """Name these values on an axis; every other one where they are many."""
    marks = sorted(set(values))
    marks = marks[:: 2 if len(marks) > 8 else 1]
    axis.set_ticks(marks, [f"{mark:g}" for mark in marks])
    axis.minorticks_off()


def guide(axes: Any, x: Sequence[float], y: float, powers: Sequence[int], name: str = "D") -> None:
    """Thin dotted lines of slope ``powers`` that meet at (x[1], y), marked where they start.

    The axes keep the limits that the data gave them, or a decade below ``y`` where that is lower.
    """
    low, high = axes.get_ylim()
    for power in powers:
        ends = [y * (x[0] / x[1]) ** power, y]
        axes.plot(x, ends, ls=":", lw=1, color="#777777")
        text = f"{name}{str(power).translate(SUPERSCRIPTS)}" if power > 1 else name
        style: Any = {"fontsize": 8, "color": "#555555", "ha": "right", "va": "center"}
        style |= {"xytext": (-3, 0), "textcoords": "offset points", "annotation_clip": True}
        axes.annotate(text, (x[0], ends[0]), **style)
    axes.set_ylim(min(low, y / 10), high)


LINE = 10.0  # points from one text to the next


class End(NamedTuple):
    """The last value of a series' line, and what is written there."""

    name: str
    y: float
    text: str


def apart(wishes: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Places in [low, high] at least ``gap`` apart, in the order of the wishes and nearest to them.

    Nearest in squares: the isotonic regression of the wishes less the gaps. Where there is no room
    for the gap, it is the largest that there is room for.
    """
    if not wishes:
        return np.empty(0)
    order, count = np.argsort(wishes, kind="stable"), len(wishes)
    steps = np.arange(count) * min(gap, (high - low) / max(1, count - 1))
    free = isotonic_regression(np.asarray(wishes)[order] - steps).x
    places = np.empty(count)
    places[order] = np.clip(free, low, high - steps[-1]) + steps
    return places


def label_ends(panel: Any, ends: Sequence[End], looks: Mapping[str, Any], height: float) -> None:
    """Write the text of each line right of a panel of ``height`` inches, whose limits are fixed."""
    panel.set(xlim=panel.get_xlim(), ylim=panel.get_ylim())
    axes, right = panel.transData - panel.transAxes, panel.get_xlim()[1]
    wishes = [float(axes.transform((right, end.y))[1]) for end in ends]
    gap = LINE / 72 / height
    places = apart(wishes, gap, gap / 2, 1 - gap / 2)
    for end, place in zip(ends, places, strict=True):
        style = {"fontsize": 8, "color": looks[end.name]["color"], "va": "center"}
        panel.annotate(end.text, (1.01, place), xycoords="axes fraction", **style)
