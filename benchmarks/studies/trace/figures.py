"""Figures of the trace study: cost beside the determinant, and errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import Figure
from benchmarks.core.metrics import METRICS
from benchmarks.plotting import draw
from benchmarks.studies.trace.tables import evaluations

SECONDS = "evaluation_seconds"
SCALE = METRICS[SECONDS].scale
TIME = draw.axis_label(SECONDS, row=True)
ERROR = draw.axis_label("trace_error")
PARTS = ("jacobian", "trace_of_formed", "determinant_of_formed")
FORWARD = {"ls": "--", "mfc": "white"}  # the mode that has another beside it
SMALLEST = {"alpha": 0.4}
CLOSED = {"ls": ":", "color": "#555555"}
COSTS_NOTE = (
    "Medians of one evaluation per row; bars are the interquartile range of the raw samples. "
    "Dashed lines with open marks: forward mode, if there is a backward mode too. Dotted lines: "
    "slopes D, D² and D³. Estimates use the fewest probes. Kept: a later evaluation of a solve, "
    "which reuses products of weights. Right: the parts of the determinant, and of the trace of "
    "a formed Jacobian."
)
ERRORS_NOTE = (
    "Errors relative to the norm of the Jacobian in float64: of estimates the root mean square "
    "over rows and draws, of exact traces the largest in a batch. Left: against probes, at the "
    "largest D, faint at the smallest. Middle: against seconds, at the largest D; dotted: the "
    "time of the closed form. Right: against D, estimates by the fewest probes. Left and right: "
    "marks of estimates are measured, with bars for their standard errors; lines are theory. "
    "Forward mode has the same errors and is left out there; elsewhere dashed lines and open "
    "marks show it."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Seconds against D; errors against probes, seconds and D."""
    done = frame[frame["status"] == "done"]
    if done.empty or SECONDS not in done or done[SECONDS].isna().all():  # counts alone
        return []
    rows, keys = evaluations(done), tuple(done["key"])
    costs, errors = partial(_costs, rows), partial(_errors, rows)
    return [
        Figure("trace-cost", "Trace and determinant", COSTS_NOTE, costs, keys),
        Figure("trace-error", "Errors of traces", ERRORS_NOTE, errors, keys),
    ]


def _lines(shown: pd.DataFrame, names: str, looks: Any) -> Iterator[tuple[pd.DataFrame, Any]]:
    """Each series, with its look: dashed and open where it is the forward mode of two."""
    for (name, mode), line in shown.groupby([names, shown["mode"].fillna("")]):
        own = FORWARD if mode == "forward" else {}
        yield line.sort_values(["dim", "probes"]), looks[name] | own


def _named(shown: pd.DataFrame, looks: Any, **others: Any) -> dict[str, Any]:
    """Looks of a legend: all series, the forward mode where it is drawn, and ``others``."""
    modes = {"forward mode": {"marker": "o", **FORWARD}} if "forward" in set(shown["mode"]) else {}
    return looks | {name: {"color": "#777777", **look} for name, look in (modes | others).items()}


def _axes(panel: Any, x: str, y: str, title: str, marks: Sequence[float] = ()) -> None:
    """Logarithmic axes, with ticks of x at its ``marks`` where there are any."""
    draw.logarithmic(panel.xaxis, panel.yaxis)
    if marks:
        draw.ticks(panel.xaxis, marks)
    panel.set(xlabel=x, ylabel=y, title=title)


def _costs(rows: pd.DataFrame) -> Any:
    """A row for each field: whole evaluations, and their parts, in seconds against D."""
    one = ~rows["estimate"] | rows["fewest"] & (rows["noise"] == rows["noise"].dropna().max())
    parts, fields = rows["work"].isin(PARTS), rows["field"].unique()
    panels = {"One evaluation": one & ~parts, "Its parts": parts | (rows["work"] == "field")}
    with draw.figure(len(fields), 2, 4.2) as (figure, axes):
        for row, field in zip(axes, fields, strict=True):
            for panel, (title, chosen) in zip(row, panels.items(), strict=True):
                points = rows[chosen & (rows["field"] == field)]
                looks = draw.looks(rows.loc[chosen, "name"])
                for line, look in _lines(points, "name", looks):
                    panel.plot(line["dim"], line[SECONDS] * SCALE, **look)
                    ends = [np.quantile(raw, [0.25, 0.75]) for raw in line[f"{SECONDS}.values"]]
                    panel.vlines(line["dim"], *np.transpose(ends) * SCALE, color=look["color"])
                _axes(panel, "D", TIME, f"{title}: {field}", sorted(set(points["dim"])))
                if points["dim"].max() > 12:
                    above = 7 * points[SECONDS].max() * SCALE  # all lines
                    draw.guide(panel, [7, 12], above, [1, 2, 3])
                named = _named(points, {name: looks[name] for name in sorted(set(points["name"]))})
                place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15), "ncols": 2}
                panel.legend(draw.samples_of(named), list(named), **place)
    return figure


def _errors(rows: pd.DataFrame) -> Any:
    """A row for each field: errors against probes and seconds at its largest D, and against D."""
    rows = rows[(rows["error"] > 0) & ~rows["work"].isin(PARTS)]
    rows = rows.assign(series=rows["name"] + (", " + rows["noise"]).fillna(""))
    looks, fields = draw.looks(rows["series"]), rows["field"].unique()
    with draw.figure(len(fields), 3) as (figure, axes):
        for (by_probes, by_time, by_dim), field in zip(axes, fields, strict=True):
            group = rows[rows["field"] == field]
            least, most = (
                group[group["dim"] == d] for d in (group["dim"].min(), group["dim"].max())
            )
            for panel, x, label, shown, own in (
                (by_probes, "probes", "Probes", least[least["estimate"]], SMALLEST),
                (by_probes, "probes", "Probes", most[most["estimate"]], {}),
                (by_dim, "dim", "D", group[~group["estimate"] | group["fewest"]], {}),
            ):
                once = shown[~shown["estimate"] | (shown["mode"] != "forward")]  # as backward
                for line, look in _lines(once, "series", looks):
                    theory = line["trace_rmse_theory"]
                    bars = {"ls": "", "yerr": line["trace_rmse_se"]} if theory.notna().any() else {}
                    panel.errorbar(line[x], line["error"], **look | own | bars)
                    panel.plot(line[x], theory, **look | own | {"marker": ""})
                _axes(panel, label, ERROR, field, sorted(set(shown[x])))
            for line, look in _lines(most, "series", looks):
                by_time.plot(line[SECONDS] * SCALE, line["error"], **look)
            closed = (most["work"] == "trace") & (most["estimator"] == "closed_form")
            for seconds in most.loc[closed, SECONDS]:
                by_time.axvline(seconds * SCALE, **CLOSED)
            _axes(by_time, TIME, ERROR, f"{field}, D = {most['dim'].max()}")
        others = {
            "time of the closed form": CLOSED,
            "at the smallest D": {"marker": "o"} | SMALLEST,
        }
        named = _named(rows, looks, **others)
        draw.legend_below(figure, draw.samples_of(named), list(named))
    return figure
