"""Logarithmic axes of any span, also of one that shows a single power of ten or none."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from matplotlib.ticker import LogLocator

from benchmarks.plotting import draw

SPAN = 1.7  # powers of ten, below which they alone are too few to read an axis by


def logarithmic(*axes: Any) -> None:
    """As `draw.logarithmic`, after drawing; with ticks at 1, 2 and 5 where less than `SPAN`."""
    for axis in axes:
        draw.logarithmic(axis)
        low, high = axis.get_view_interval()
        if 0 < low < high and math.log10(high / low) < SPAN:
            powers = axis.get_major_formatter()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(partial(_named, powers))


def _named(powers: Any, value: float, _: Any = None) -> str:
    """A plain number; far from one, a digit times a power of ten as ``powers`` writes it."""
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    digit, _, exponent = f"{value:.0e}".partition("e")
    tens = str(powers(10.0 ** int(exponent)))
    return tens if digit == "1" else f"{digit}·{tens}"
