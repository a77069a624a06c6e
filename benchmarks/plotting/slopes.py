"""Exponents at the ends of lines: short dashed continuations, and numbers that do not overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

LETTERS = 8.0  # points
LINE = 10.0  # points from one number to the next


class End(NamedTuple):
    """The last point of a series' line, and its exponent there."""

    name: str
    x: float
    y: float
    exponent: float


def apart(wishes: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Places in [low, high] at least ``gap`` apart, in the order of the wishes and nearest to them.

    Nearest in squares: the isotonic regression, by its max-min formula, of the wishes less the
    gaps. Where there is no room for the gap, it is the largest that there is room for.
    """
    order, count = np.argsort(wishes, kind="stable"), len(wishes)
    steps = np.arange(count) * min(gap, (high - low) / max(1, count - 1))
    w = np.asarray(wishes)[order] - steps
    free = [
        max(min(w[j : k + 1].mean() for k in range(i, count)) for j in range(i + 1))
        for i in range(count)
    ]
    places = np.empty(count)
    places[order] = np.clip(free, low, high - steps[-1]) + steps
    return places


def draw(panel: Any, ends: Sequence[End], looks: Mapping[str, Any], height: float) -> None:
    """Continue the lines of a panel with logarithmic axes, of ``height`` inches, by their slopes.

    Its limits are fixed by this, with room for the numbers on the right.
    """
    left, right = panel.get_xlim()
    bottom, top = panel.get_ylim()
    reach = (right / left) ** 0.06
    tips = [end.y * reach**end.exponent for end in ends]
    top = max(top, *(1.2 * tip for tip in tips), 0)
    panel.set(xlim=(left, right * reach**3), ylim=(bottom, top))
    if not ends:
        return
    wishes = np.log(np.array(tips) / bottom) / np.log(top / bottom)
    gap = LINE / 72 / height
    places = apart(wishes, gap, gap / 2, 1 - gap / 2)
    for end, tip, wish, place in zip(ends, tips, wishes, places, strict=True):
        colour = looks[end.name]["color"]
        panel.plot([end.x, end.x * reach], [end.y, tip], ls=(0, (2, 1.2)), lw=1.2, color=colour)
        moved = {"arrowstyle": "-", "lw": 0.5, "color": colour, "shrinkA": 0, "shrinkB": 0}
        panel.annotate(
            f"{end.exponent:.1f}",
            (end.x * reach, tip),
            (end.x * reach**1.4, bottom * (top / bottom) ** place),
            fontsize=LETTERS,
            color=colour,
            va="center",
            bbox={"boxstyle": "square,pad=0.05", "fc": "white", "ec": "none", "alpha": 0.8},
            arrowprops={**moved, "relpos": (0, 0.5)} if abs(place - wish) > gap / 4 else None,
        )
