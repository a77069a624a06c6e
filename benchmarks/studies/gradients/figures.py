"""Figures of the gradients study: error, bytes and evaluations; error against seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from benchmarks.core.exhibit import Figure
from benchmarks.core.metrics import METRICS
from benchmarks.plotting import draw, narrow
from benchmarks.studies.gradients.tables import with_solver

LOOKS = draw.looks(("adjoint", "backprop", "seminorm"))
LOOKS["adjoint"] |= {"lw": 3.2, "markersize": 7.5}  # seen beneath a seminorm that equals it
STYLES: dict[str, dict[str, Any]] = {
    "float64": {"ls": "-"},
    "float32": {"ls": "--", "markerfacecolor": "white"},
}
FORWARD = {"color": "black", "lw": 1}
KNOWN = {"color": "#777777", "ls": ":", "lw": 1}
SPACING = {"color": "#777777", "ls": (0, (5, 2)), "lw": 0.7}
EPSILON = 2.0**-23  # spacing of float32's numbers at one
PREFERRED = "dopri5"  # the method that is shown alone, where it was measured


ERROR = draw.axis_label("gradient_error", label="error of the gradient")
ABOUT = (
    "One column per number of training updates. Dashed lines and open marks: float32; solid "
    "lines and full marks: float64. Medians over seeds"
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Of each flow and data set: error, saved bytes and evaluations; error against seconds."""
    done = frame[frame["status"] == "done"]
    return list(_figures(with_solver(done))) if len(done) else []


def _figures(done: pd.DataFrame) -> Iterator[Figure]:
    for (data, name), group in done.groupby(["dataset", "series"]):
        slug = re.sub(r"[^\w.]+", "-", f"{name}-{data}").lower()
        costs = (
            f"{ABOUT}, thin bars the range over seeds. Top: error of the gradient by "
            f"{_alone(group)} relative to a float64 gradient at a tight tolerance. Dotted: the "
            "error of that reference; thin dashed: the spacing of float32 numbers at one. "
            "Middle: most bytes held for backward, one mark for each setting of each solver. "
            "Bottom: evaluations of the backward solve, which backprop does not have; black line "
            "without marks: the forward solve."
        )
        work = (
            f"{ABOUT}. One row per gradient method. Error against seconds of loss and backward "
            "over seconds of the reference workload, one line along the settings of each solver; "
            "down and to the left is better."
        )
        kinds = [("", "Error and cost of the gradient", costs, _costs)]
        if "gradient_seconds" in group:
            kinds.append(("work-", "Error of the gradient against seconds", work, _work))
        for kind, title, note, picture in kinds:
            drawn, keys = partial(picture, group), tuple(group["key"])
            yield Figure(f"gradients-{kind}{slug}", f"{title}, {name} on {data}", note, drawn, keys)


def _field(updates: int) -> str:
    """What a field has been through."""
    return f"{updates:,} updates" if updates else "untrained"


def _alone(done: pd.DataFrame) -> str:
    """The method that is shown alone: `PREFERRED`, else the first adaptive one, else the first."""
    known = set(zip(done["fixed"], done["method"] != PREFERRED, done["method"], strict=True))
    return str(min(known)[-1])


def _costs(done: pd.DataFrame) -> Any:
    """Error, saved bytes and backward evaluations, a column for each field."""
    method, fields = _alone(done), sorted(done["updates"].unique())
    scale = METRICS["gradient_bytes"].scale
    fixed = bool(done.loc[done["method"] == method, "fixed"].iloc[0])
    with draw.figure(3, len(fields), 2.6, sharey="row", sharex="row") as (figure, axes):
        for column, updates in enumerate(fields):
            error, saved, nfe = axes[:, column]
            here = done[done["updates"] == updates]
            for (dtype, gradient), group in here.groupby(["dtype", "gradient"]):
                look = {**LOOKS[str(gradient)], **STYLES[str(dtype)]}
                own = group[group["method"] == method]
                _line(error, own[own["gradient_error"] > 0], "setting", "gradient_error", look)
                _line(nfe, own, "setting", "nfe_backward", look)
                points = {**look, "ls": "", "markersize": 4.5}
                saved.plot(group["nfe_forward"], group["gradient_bytes"] * scale, **points)
            for dtype, group in here[here["method"] == method].groupby("dtype"):
                _line(nfe, group, "setting", "nfe_forward", {**FORWARD, **STYLES[str(dtype)]})
            error.axhline(here["reference_shift"].median(), **KNOWN)
            if "float32" in set(here["dtype"]):
                error.axhline(EPSILON, **SPACING)
            error.set(title=f"{_field(updates)}, {method}")
            saved.set(title=f"{_field(updates)}, all solvers", xlabel="forward NFE")
            nfe.set(title=f"{_field(updates)}, {method}")
            for panel in (error, nfe):
                panel.set(xlabel="step size" if fixed else "tolerance")
        narrow.logarithmic(*(panel.xaxis for panel in axes.flat))
        narrow.logarithmic(*(panel.yaxis for panel in axes[:2].flat))
        error, saved, nfe = axes[:, 0]
        error.set(ylabel=ERROR)
        saved.set(ylabel=draw.axis_label("gradient_bytes", label="held for backward"))
        nfe.set(ylabel=draw.axis_label("nfe_backward"), ylim=(0, None))
        looks = {name: LOOKS[name] for name in LOOKS if name in set(done["gradient"])}
        looks |= {"forward solve": FORWARD, METRICS["reference_shift"].name: KNOWN}
        single = {"float32's spacing at one": SPACING} if "float32" in set(done["dtype"]) else {}
        _legend(figure, done, {**looks, **single})
    return figure


def _line(panel: Any, rows: pd.DataFrame, x: str, y: str, look: dict[str, Any]) -> None:
    """Median over seeds against ``x``, with the range over seeds."""
    over = rows.groupby(x)[y].agg(["median", "min", "max"])
    panel.plot(over.index, over["median"], **look)
    panel.vlines(over.index, over["min"], over["max"], color=look["color"], lw=0.8, alpha=0.6)


def _work(done: pd.DataFrame) -> Any:
    """Error against seconds, a column for each field, a row for each gradient."""
    fields, kinds = sorted(done["updates"].unique()), sorted(done["gradient"].unique())
    looks = draw.looks(done["method"])
    done = done.assign(relative=done["gradient_seconds"] / done["reference_seconds"])
    with draw.figure(len(kinds), len(fields), 2.6, sharex="col", sharey=True) as (figure, axes):
        for (row, kind), (column, updates) in product(enumerate(kinds), enumerate(fields)):
            here = done[(done["gradient"] == kind) & (done["updates"] == updates)]
            for (dtype, method), group in here.groupby(["dtype", "method"]):
                over = group.groupby("setting")[["relative", "gradient_error"]].median()
                look = {**looks[str(method)], **STYLES[str(dtype)]}
                axes[row, column].plot(over["relative"], over["gradient_error"], **look)
            axes[row, column].set(title=f"{_field(updates)}, {kind}")
        narrow.logarithmic(*(axis for panel in axes.flat for axis in (panel.xaxis, panel.yaxis)))
        for panel in axes[-1]:
            panel.set(xlabel="seconds / reference")
        for panel in axes[:, 0]:
            panel.set(ylabel=ERROR)
        _legend(figure, done, looks)
    return figure


def _legend(figure: Any, done: pd.DataFrame, looks: dict[str, Any]) -> None:
    """The series' looks, and those of the precisions."""
    handles = {name: Line2D([], [], **look) for name, look in looks.items()}
    for dtype, style in STYLES.items():
        if dtype in set(done["dtype"]):
            handles[dtype] = Line2D([], [], color="#777777", marker="o", **style)
    draw.legend_below(figure, list(handles.values()), list(handles))
