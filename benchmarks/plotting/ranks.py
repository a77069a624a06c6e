"""The diagram of mean ranks over data sets, with bars that join what does not differ."""

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.ranking import Ranking
from benchmarks.core.exhibit import Figure
from benchmarks.core.naming import STAR, is_baseline
from benchmarks.plotting import draw

NOTE = (
    "Mean rank on {} data sets, the best at the left. A bar joins models that are not shown to "
    f"differ, at a level of {LEVEL:g} (Friedman's and Nemenyi's tests; Demšar 2006). CD: critical "
    "difference. Grey: baselines."
)
WIDTH, LINE = 8.2, 0.19  # inches: of the figure, of a line of it
BETWEEN = 0.5  # lines from one bar to the next
SIDE = 0.4  # of the axis, for names at either side
FITTED = "#777777"


def figures(study: str, ranking: Ranking | None) -> list[Figure]:
    if ranking is None:
        return []
    note = NOTE.format(len(ranking.likelihoods.columns))
    title = "Mean ranks over data sets, and which differ"
    return [Figure.of(f"{study}-ranks", title, note, _diagram, ranking.cases, ranking)]


def _diagram(rows: pd.DataFrame, ranking: Ranking) -> Any:
    baselines = {*rows.loc[is_baseline(rows), "series"]}
    bars, critical, count = ranking.alike, ranking.critical(), len(ranking.ranks)
    top = 1.2 + BETWEEN * len(bars)  # lines below the axis, of the first name
    span, half = count - 1.0, (count + 1) // 2  # names at the left are those of the better half
    with draw.figure(height=LINE * (top + half + 4)) as (figure, axes):
        figure.set_figwidth(WIDTH)
        panel, black = axes[0, 0], {"color": "black", "lw": 1.0}
        panel.set(xlim=(1 - SIDE * span, count + SIDE * span), ylim=(top + half, -4))
        panel.axis("off")
        for y, end, text in ((0.0, float(count), ""), (-2.6, 1 + critical, f"CD = {critical:.2f}")):
            panel.plot((1, end), (y, y), **black)
            panel.text((1 + end) / 2, y - 0.3, text, ha="center", va="bottom")
        for tick in range(1, count + 1, 1 + count // 12):
            panel.plot((tick, tick), (-0.3, 0), **black)
            panel.text(tick, -0.4, str(tick), ha="center", va="bottom")
        for line, bar in enumerate(bars):
            ends = ranking.ranks.iloc[[*bar]] + np.array([-0.01, 0.01]) * span
            panel.plot(ends, [0.7 + BETWEEN * line] * 2, color="black", lw=3)
        for place, (name, rank) in enumerate(ranking.ranks.items()):
            y, end, way, side = top + place, 1.0, -0.01 * span, "right"
            if place >= half:
                y, end, way, side = top + count - 1 - place, float(count), 0.01 * span, "left"
            colour = FITTED if name in baselines else "black"
            colour = draw.FOREIGN if str(name).startswith(STAR) else colour
            panel.plot((rank, rank, end + 2 * way), (0, y, y), color=colour, lw=0.8)
            text = f"{name} {rank:.2f}" if place < half else f"{rank:.2f} {name}"
            panel.text(end + 3 * way, y, text, ha=side, va="center", color=colour)
    return figure
