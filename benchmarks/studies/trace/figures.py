"""Traces of Jacobians, drawn: cost beside the determinant, and errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from benchmarks.plotting import draw, narrow

ERROR = "Error / ‖J‖"
PARTS = ("jacobian", "trace_of_formed", "determinant_of_formed")
FORWARD = {"ls": "--", "mfc": "white"}  # the mode that has another beside it
SMALLEST = {"alpha": 0.4}
CLOSED = {"ls": ":", "color": "#555555"}
COSTS = (
    "Medians of one evaluation over its rows; bars are the middle half of the raw samples. Dashed "
    "lines with open marks are forward mode where there is a backward one too. The dotted lines "
    "rise as D, D² and D³. Estimates are those of the fewest probes. Kept: a later evaluation of a "
    "solve that keeps products of weights. Right: what a determinant, or the trace of a formed "
    "Jacobian, is made of."
)
ERRORS = (
    "Against the Jacobian in float64, relative to its norm: of estimates the root mean square over "
    "rows and draws, of exact traces the largest of a batch. Left: at the largest D, and faint at "
    "the smallest. Middle: at the largest D; the dotted line is the time of the closed form. "
    "Right: estimates by the fewest probes. Left and right, marks of estimates are measured, with "
    "bars for their standard errors, and their lines are theory; forward mode, which has the same "
    "errors, is left out. Else dashed lines and open marks are forward mode."
)


def _lines(shown: pd.DataFrame, names: str, looks: Any) -> Iterator[tuple[pd.DataFrame, Any]]:
    """Each series, with its look: dashed and open where it is the forward mode of two."""
    for (name, mode), line in shown.groupby([names, shown["Mode"].fillna("")]):
        own = FORWARD if mode == "forward" else {}
        yield line.sort_values(["D", "Probes"]), looks[name] | own


def _handles(shown: pd.DataFrame, looks: Any, **others: Any) -> dict[str, Any]:
    """Of a legend by name: all series, the forward mode where it is drawn, and ``others``."""
    told = {"forward mode": {"marker": "o", **FORWARD}} if "forward" in set(shown["Mode"]) else {}
    grey = {name: {"color": "#777777", **look} for name, look in (told | others).items()}
    return {name: Line2D([], [], **look) for name, look in (looks | grey).items()}


def _axes(panel: Any, x: str, y: str, title: str, marks: Sequence[float] = ()) -> None:
    """Logarithmic axes, with ticks of x at its ``marks`` where there are any."""
    narrow.logarithmic(panel.xaxis, panel.yaxis)
    if marks:
        draw.ticks(panel.xaxis, marks)
    panel.set(xlabel=x, ylabel=y, title=title)


def costs(known: pd.DataFrame) -> Any:
    """A row for each field: whole evaluations, and their parts, in seconds against D."""
    one = ~known["estimate"] | known["fewest"] & (known["Noise"] == known["Noise"].dropna().max())
    parts, fields = known["work"].isin(PARTS), known["Field"].unique()
    panels = {"One evaluation": one & ~parts, "Its parts": parts | (known["work"] == "field")}
    with draw.figure(len(fields), 2, 4.2) as (figure, axes):
        for row, field in zip(axes, fields, strict=True):
            for panel, (title, chosen) in zip(row, panels.items(), strict=True):
                shown = known[chosen & (known["Field"] == field)]
                looks = draw.looks(known.loc[chosen, "Work"])
                for line, look in _lines(shown, "Work", looks):
                    panel.plot(line["D"], line["seconds"], **look)
                    ends = [np.quantile(raw, [0.25, 0.75]) for raw in line["raw"]]
                    panel.vlines(line["D"], *np.transpose(ends), color=look["color"])
                _axes(panel, "D", "s per row", f"{title}: {field}", sorted(set(shown["D"])))
                if shown["D"].max() > 12:
                    draw.guide(panel, [7, 12], 7 * shown["seconds"].max(), [1, 2, 3])  # above all
                named = _handles(shown, {name: looks[name] for name in sorted(set(shown["Work"]))})
                place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15), "ncols": 2}
                panel.legend(list(named.values()), list(named), **place)
    return figure


def errors(known: pd.DataFrame) -> Any:
    """A row for each field: errors against probes and seconds at its largest D, and against D."""
    known = known[(known[ERROR] > 0) & ~known["work"].isin(PARTS)]
    known = known.assign(name=known["Work"] + (", " + known["Noise"]).fillna(""))
    looks, fields = draw.looks(known["name"]), known["Field"].unique()
    with draw.figure(len(fields), 3) as (figure, axes):
        for (by_probes, by_time, by_dim), field in zip(axes, fields, strict=True):
            group = known[known["Field"] == field]
            least, most = (group[group["D"] == d] for d in (group["D"].min(), group["D"].max()))
            for panel, x, shown, own in (
                (by_probes, "Probes", least[least["estimate"]], SMALLEST),
                (by_probes, "Probes", most[most["estimate"]], {}),
                (by_dim, "D", group[~group["estimate"] | group["fewest"]], {}),
            ):
                once = shown[~shown["estimate"] | (shown["Mode"] != "forward")]  # as backward
                for line, look in _lines(once, "name", looks):
                    theory = line["Theory"].notna().any()
                    bars = {"yerr": line["±"], "ls": ""} if theory else {}
                    panel.errorbar(line[x], line[ERROR], **look | own | bars)
                    panel.plot(line[x], line["Theory"], **look | own | {"marker": ""})
                _axes(panel, x, ERROR, field, sorted(set(shown[x])))
            for line, look in _lines(most, "name", looks):
                by_time.plot(line["seconds"], line[ERROR], **look)
            for seconds in most.loc[most["Work"] == "closed_form", "seconds"]:
                by_time.axvline(seconds, **CLOSED)
            _axes(by_time, "s per row", ERROR, f"{field}, D = {most['D'].max()}")
        others = {
            "time of the closed form": CLOSED,
            "at the smallest D": {"marker": "o"} | SMALLEST,
        }
        named = _handles(known, looks, **others)
        draw.legend_below(figure, list(named.values()), list(named))
    return figure
