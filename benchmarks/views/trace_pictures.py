"""Traces of Jacobians, drawn: cost beside the determinant, and errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator

from benchmarks import draw

ERROR = "Error / ‖J‖"
PARTS = ("jacobian", "trace_of_formed", "determinant_of_formed")
COSTS = (
    "Medians of one evaluation over its rows; bars are the middle half of the raw samples. Dashed: "
    "forward mode. Dotted: slopes D, D² and D³. Estimates by the fewest probes. Kept: a later "
    "evaluation of a solve that keeps products of weights. Right: what a determinant, or the trace "
    "of a formed Jacobian, is made of."
)
ERRORS = (
    "Against the Jacobian in float64, relative to its norm: of estimates the root mean square over "
    "rows and draws, of exact traces the largest of a batch. Left: at the largest D, dashed and "
    "open at the smallest; lines of estimates, here and right, are theory. Middle: at the largest "
    "D, dashed and open in forward mode; dotted, the time of the closed form. Right: fewest probes."
)


def _lines(shown: pd.DataFrame, names: str, looks: Any) -> Iterator[tuple[pd.DataFrame, Any]]:
    """Each series, with its look: dashed and open where it is the forward mode of two."""
    for (name, mode), line in shown.groupby([names, shown["Mode"].fillna("")]):
        own = {"ls": "--", "mfc": "white"} if mode == "forward" else {"label": name}
        yield line.sort_values(["D", "Probes"]), looks[name] | own


def _axes(panel: Any, x: str, y: str, title: str, marks: Sequence[float] = ()) -> None:
    """Logarithmic axes, with ticks of x at its ``marks`` where there are any."""
    draw.logarithmic(panel.xaxis, panel.yaxis)
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
                for line, look in _lines(shown, "Work", draw.looks(known.loc[chosen, "Work"])):
                    panel.plot(line["D"], line["seconds"], **look)
                    ends = [np.quantile(raw, [0.25, 0.75]) for raw in line["raw"]]
                    panel.vlines(line["D"], *np.transpose(ends), color=look["color"])
                _axes(panel, "D", "s per row", f"{title}: {field}", sorted(set(shown["D"])))
                if shown["D"].max() > 12:
                    draw.guide(panel, [6, 12], 2 * shown["seconds"].max(), [1, 2, 3])
                panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
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
                (by_probes, "Probes", least[least["estimate"]], {"ls": "--", "mfc": "white"}),
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
            by_probes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            by_probes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            for line, look in _lines(most, "name", looks):
                by_time.plot(line["seconds"], line[ERROR], **look)
            for seconds in most.loc[most["Work"] == "closed_form", "seconds"]:
                by_time.axvline(seconds, ls=":", color="#555555")
            _axes(by_time, "s per row", ERROR, f"{field}, D = {most['D'].max()}")
        draw.legend_below(figure, *axes[0, 1].get_legend_handles_labels())
    return figure
