"""Figures of the nfe study: NFE against updates, tolerance and D; totals of a density against D."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import nfe
from benchmarks.analysis.growth import ALWAYS, NEVER
from benchmarks.analysis.nfe import TOLERANCE, Total, parts_of
from benchmarks.core.exhibit import RECORDS, Column, Figure
from benchmarks.core.frame import arrays_by_case
from benchmarks.core.naming import flow_of
from benchmarks.plotting import draw
from benchmarks.studies.nfe.tables import FIT, TOTALS_NOTE

TRAINING_NOTE = (
    "Means over the seeds, a row for each flow. Left: evaluations on a fixed batch as training "
    "goes, dashed those of the adjoint. Middle and right: float64, tolerance atol = rtol, dashed "
    "before training; the error is the largest |log p - log p at the tightest tolerance| over the "
    "batch."
)
COSTLY = "The more evaluations, the higher the D from which on an ODE costs less than Glow"
AGAINST = ("glow", "nsf_ar", "realnvp")  # flows without an ODE whose lines are named
TOTALS_MARKS = "Points: where it falls below the first Glow. Shaded: least to most evaluations."
AT_FIT = "At equal fit evaluations grow with D on some data and not on others"
FIXED = "Grey: where the width follows D."


def figures(frame: pd.DataFrame) -> Iterator[Figure]:
    """NFE against updates and tolerance, error against tolerance; NFE and totals against D."""
    rows = frame[frame["study"] == "nfe"]
    done = rows[(rows["status"] == "done") & rows["arrays"].notna()]
    if done.empty:
        return
    yield Figure.of("nfe", "Function evaluations", TRAINING_NOTE, _training, done)
    if fits := [fit for fit in nfe.fits(rows) if TOLERANCE in fit.tolerances]:
        frames = [f.rows.assign(data=parts_of(f.name)[1], nfe=f.rows[TOLERANCE]) for f in fits]
        note = f"{FIT}A point for each seed, a line: means. Tolerance {TOLERANCE}. {FIXED}"
        points = pd.concat(frames).dropna(subset="nfe")
        yield Figure.of("nfe-equal-fit", AT_FIT, note, _against_dimension, points)
    solved, direct = nfe.totals(frame)
    if solved:
        rest = ", ".join(t.name for t in direct if not t.name.startswith(AGAINST))
        note = f"{TOTALS_NOTE} {TOTALS_MARKS} Grey: {rest or 'none'}."
        keys = pd.DataFrame({RECORDS: [total.keys for total in (*solved, *direct)]})
        yield Figure.of("nfe-totals", COSTLY, note, _totals, keys, solved, direct)


def _training(done: pd.DataFrame) -> Any:
    """A row of panels for each flow, a line for each data set."""
    groups = [(str(name), group) for name, group in nfe.named(done).groupby("series")]
    looks = draw.looks(done["dataset"])
    with draw.figure(len(groups), 3, height=3.0) as (figure, axes):
        for row, (name, group) in zip(axes, groups, strict=True):
            for data, repeated in group.sort_values("dim").groupby("dataset", sort=False):
                seeds = arrays_by_case(repeated)
                means = {n: np.mean([a[n] for a in seeds], axis=0) for n in seeds[0]}
                _curves(row, means, str(data), looks[str(data)])
            training, tolerance, error = row
            labels: Any = {"ylabel": "NFE", "ylim": (0, None)}
            draw.finish(training, log="", xlabel="updates", title=name, **labels)
            draw.finish(tolerance, log="x", xlabel="tolerance", **labels)
            label = Column.of("log_prob_error", label="error in log p").header
            draw.finish(error, xlabel="tolerance", ylabel=label)
        draw.legend_of(figure, axes[:, 0])
    return figure


def _curves(panels: Any, a: dict[str, np.ndarray], label: str, look: dict[str, Any]) -> None:
    """NFE against updates; NFE and error against tolerance."""
    training, tolerance, error = panels
    training.plot(a["updates"], a["nfe_forward"], label=label, **look)
    if a["nfe_backward"].any():
        training.plot(a["updates"], a["nfe_backward"], ls="--", **look)
    for curve, style in ((0, "--"), (-1, "-")):
        tolerance.plot(a["tolerances"], a["nfe"][curve], ls=style, **look)
        positive = a["error"][curve] > 0
        error.plot(a["tolerances"][positive], a["error"][curve][positive], ls=style, **look)


def _against_dimension(points: pd.DataFrame) -> Any:
    """NFE against D, a panel for each family of data: every seed a point, a line through means."""
    wide, panels = points["series"].str.contains("·D"), list(points.groupby("data"))
    looks = draw.looks(points["series"][~wide if not wide.all() else wide])
    grey = {name: {"color": "#bbbbbb", "lw": 1, "zorder": 1} for name in points["series"]}
    with draw.figure(1, len(panels), 3.6, sharey=True) as (figure, axes):
        for panel, (title, rows) in zip(axes.flat, panels, strict=True):
            means = rows.groupby(["series", "dim"])["nfe"].mean().reset_index()
            draw.lines(panel, rows, "dim", "nfe", grey | looks, ls="", alpha=0.4, label="")
            draw.lines(panel, means, "dim", "nfe", grey | looks)
            draw.finish(panel, marks=rows["dim"], xlabel="D", ylabel="NFE", title=title)
        for panel, (_, rows) in zip(axes.flat, panels, strict=True):  # whose limits are common
            last = rows.sort_values("dim").groupby("series").last()["nfe"]
            ends = [draw.End(name, last[name], flow_of(name)) for name in looks if name in last]
            draw.label_ends(panel, ends, looks, 3.0)
    return figure


def _totals(_: pd.DataFrame, solved: Sequence[Total], direct: Sequence[Total]) -> Any:
    """FLOPs per row against D: of FFJORD by its evaluations, with their range, and of others."""
    name = min((total.name for total in solved), key=lambda name: flow_of(name) != "ffjord")
    lines = {total.name: total for total in direct}
    lines |= {
        f"{name}, {total.evaluations[1]:.0f} NFE{f' ({total.data})' * bool(total.data)}": total
        for total in solved
        if total.name == name
    }
    looks = draw.looks(n for n, t in lines.items() if any(t.evaluations) or n.startswith(AGAINST))
    first = next((total for total in direct if total.name.startswith(AGAINST)), direct[0])
    with draw.figure(1, 1, 4.2) as (figure, axes):
        panel, ends = axes[0, 0], []
        for label, total in lines.items():
            least, median, most = total.flops
            look = looks.get(label, {"color": "#bbbbbb", "lw": 1, "zorder": 1})
            panel.plot(median.index, median, **{**look, "marker": ""})
            if label in looks:
                ends.append(draw.End(label, median.iloc[-1], label))
            if not any(total.evaluations):
                continue
            panel.fill_between(median.index, least, most, color=look["color"], alpha=0.15, lw=0)
            if ALWAYS < (dim := total.crossings(first)[1]) < NEVER:
                cost = np.exp(np.interp(np.log(dim), np.log(median.index), np.log(median)))
                panel.plot(dim, cost, "o", color=look["color"])
                place: Any = {"xytext": (-5, 5), "textcoords": "offset points", "ha": "right"}
                panel.annotate(f"D = {dim:,.0f}", (dim, cost), color=look["color"], **place)
        label = Column.of("log_prob_flops", row=True).header
        draw.finish(panel, marks=direct[0].once.index, xlabel="D", ylabel=label)
        draw.label_ends(panel, ends, looks, 3.6)
    return figure
