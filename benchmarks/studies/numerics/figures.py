"""Figures of numerics: error and cost of gradients; errors of identities and of estimates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import Figure
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import name_runs
from benchmarks.plotting import draw
from benchmarks.studies.numerics.tables import (
    NAMES,
    NOTES,
    TITLES,
    convergence,
    done,
    estimates,
    with_solver,
)

LOOKS = draw.looks(("adjoint", "backprop", "seminorm"))
LOOKS["adjoint"] |= {"lw": 3.2, "markersize": 7.5}  # seen beneath a seminorm that equals it
STYLES: dict[str, dict[str, Any]] = {
    "float64": {"ls": "-"},
    "float32": {"ls": "--", "markerfacecolor": "white"},
}
FORWARD = {"color": "black", "lw": 1}
SHIFT = {"color": "#777777", "ls": ":", "lw": 1}
SPACING = {"color": "#777777", "ls": (0, (5, 2)), "lw": 0.7}
EPSILON = 2.0**-23  # spacing of float32's numbers at one
PREFERRED = "dopri5"  # the method that is shown alone, where it was measured
SPACES = {"d": "R^D", "k": "R^K"}
ERROR = draw.axis_label("gradient_error", label="error of the gradient")
ABOUT = (
    "One column per number of training updates. Dashed lines and open marks: float32; solid "
    "lines and full marks: float64. Medians over seeds"
)
COSTS = (
    ABOUT + ", thin bars the range over seeds. Top: error of the gradient by {method} relative to "
    "a float64 gradient at a tight tolerance. Dotted: the error of that reference; thin dashed: "
    "the spacing of float32 numbers at one. Middle: most bytes held for backward, one mark for "
    "each setting of each solver. Bottom: evaluations of the backward solve, which backprop does "
    "not have; black line without marks: the forward solve."
)
WORK = (
    f"{ABOUT}. One row per gradient method. Error against seconds of loss and backward over "
    "seconds of the reference workload, one line along the settings of each solver; down and to "
    "the left is better."
)


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Error and cost of gradients; each identity that falls with the steps or is estimated."""
    gradients = frame[(frame["status"] == "done") & (frame["setting.part"] == "gradients")]
    every = list(_gradients(with_solver(gradients))) if len(gradients) else []
    for identity, picture in (("order", _orders), ("rate", _orders), ("estimate", _estimates)):
        if len(rows := name_runs(done(frame, identity), *NAMES)):
            name, drawn = f"identities-{identity}", partial(picture, rows)
            every += [Figure(name, TITLES[identity], NOTES[identity], drawn, tuple(rows["key"]))]
    return every


# ---- gradients ----------------------------------------------------------------------------------


def _gradients(rows: pd.DataFrame) -> Iterator[Figure]:
    """Of each flow and data set: error, saved bytes and evaluations; error against seconds."""
    for (data, name), group in rows.groupby(["dataset", "series"]):
        slug = re.sub(r"[^\w.]+", "-", f"{name}-{data}").lower()
        note = COSTS.format(method=_alone(group))
        kinds = [("", "Error and cost of the gradient", note, _costs)]
        if "gradient_seconds" in group:
            kinds.append(("work-", "Error of the gradient against seconds", WORK, _work))
        for kind, title, note, picture in kinds:
            drawn, keys = partial(picture, group), tuple(group["key"])
            yield Figure(f"gradients-{kind}{slug}", f"{title}, {name} on {data}", note, drawn, keys)


def _field(updates: int) -> str:
    return f"{updates:,} updates" if updates else "untrained"


def _alone(rows: pd.DataFrame) -> str:
    """The method that is shown alone: `PREFERRED`, else the first adaptive one, else the first."""
    methods = set(zip(rows["fixed"], rows["method"] != PREFERRED, rows["method"], strict=True))
    return str(min(methods)[-1])


def _costs(rows: pd.DataFrame) -> Any:
    """Error, saved bytes and backward evaluations, a column for each field."""
    method, fields = _alone(rows), sorted(rows["updates"].unique())
    scale = METRICS["gradient_bytes"].scale
    setting = "step size" if rows.loc[rows["method"] == method, "fixed"].iloc[0] else "tolerance"
    with draw.figure(3, len(fields), 2.6, sharey="row", sharex="row") as (figure, axes):
        for (error, saved, nfe), updates in zip(axes.T, fields, strict=True):
            here = rows[rows["updates"] == updates]
            for (dtype, gradient), group in here.groupby(["dtype", "gradient"]):
                look = {**LOOKS[str(gradient)], **STYLES[str(dtype)]}
                alone = group[group["method"] == method]
                _line(error, alone[alone["gradient_error"] > 0], "gradient_error", look)
                _line(nfe, alone, "nfe_backward", look)
                points = {**look, "ls": "", "markersize": 4.5}
                saved.plot(group["nfe_forward"], group["gradient_bytes"] * scale, **points)
            for dtype, group in here[here["method"] == method].groupby("dtype"):
                _line(nfe, group, "nfe_forward", {**FORWARD, **STYLES[str(dtype)]})
            error.axhline(here["reference_shift"].median(), **SHIFT)
            if "float32" in set(here["dtype"]):
                error.axhline(EPSILON, **SPACING)
            for panel in (error, nfe):
                panel.set(title=f"{_field(updates)}, {method}", xlabel=setting)
            saved.set(title=f"{_field(updates)}, all solvers", xlabel="forward NFE")
        draw.logarithmic(*(panel.xaxis for panel in axes.flat))
        draw.logarithmic(*(panel.yaxis for panel in axes[:2].flat))
        error, saved, nfe = axes[:, 0]
        error.set(ylabel=ERROR)
        saved.set(ylabel=draw.axis_label("gradient_bytes", label="held for backward"))
        nfe.set(ylabel=draw.axis_label("nfe_backward"), ylim=(0, None))
        looks = {name: look for name, look in LOOKS.items() if name in set(rows["gradient"])}
        looks |= {"forward solve": FORWARD, METRICS["reference_shift"].name: SHIFT}
        if "float32" in set(rows["dtype"]):
            looks["float32's spacing at one"] = SPACING
        _legend(figure, rows, looks)
    return figure


def _line(panel: Any, rows: pd.DataFrame, metric: str, look: dict[str, Any]) -> None:
    """Median over seeds against the setting, with the range over seeds."""
    over = rows.groupby("setting")[metric].agg(["median", "min", "max"])
    panel.plot(over.index, over["median"], **look)
    panel.vlines(over.index, over["min"], over["max"], color=look["color"], lw=0.8, alpha=0.6)


def _work(rows: pd.DataFrame) -> Any:
    """Error against seconds, a column for each field, a row for each gradient."""
    fields, kinds = sorted(rows["updates"].unique()), sorted(rows["gradient"].unique())
    looks = draw.looks(rows["method"])
    rows = rows.assign(relative=rows["gradient_seconds"] / rows["reference_seconds"])
    with draw.figure(len(kinds), len(fields), 2.6, sharex="col", sharey=True) as (figure, axes):
        for panel, (kind, updates) in zip(axes.flat, product(kinds, fields), strict=True):
            here = rows[(rows["gradient"] == kind) & (rows["updates"] == updates)]
            for (dtype, method), group in here.groupby(["dtype", "method"]):
                over = group.groupby("setting")[["relative", "gradient_error"]].median()
                look = {**looks[str(method)], **STYLES[str(dtype)]}
                panel.plot(over["relative"], over["gradient_error"], **look)
            panel.set(title=f"{_field(updates)}, {kind}")
        draw.logarithmic(*(axis for panel in axes.flat for axis in (panel.xaxis, panel.yaxis)))
        for panel in axes[-1]:
            panel.set(xlabel="seconds / reference")
        for panel in axes[:, 0]:
            panel.set(ylabel=ERROR)
        _legend(figure, rows, looks)
    return figure


def _legend(figure: Any, rows: pd.DataFrame, looks: dict[str, Any]) -> None:
    """The series' looks, and those of the precisions."""
    grey = {"color": "#777777", "marker": "o"}
    precisions = {name: grey | look for name, look in STYLES.items() if name in set(rows["dtype"])}
    draw.legend_below(figure, draw.samples_of(looks | precisions), [*looks, *precisions])


# ---- identities ---------------------------------------------------------------------------------


def _orders(rows: pd.DataFrame) -> Any:
    """Errors against the number of steps, with the order of convergence."""
    method = rows.get("setting.method", pd.Series(index=rows.index, dtype=object))
    names = method.astype(object).fillna(rows["option.time"] + ", D = " + rows["dim"].astype(str))
    looks, marks = draw.looks(names), []
    with draw.figure() as (figure, axes):
        panel = axes[0, 0]
        for name, (_, row) in zip(names, rows.iterrows(), strict=True):
            steps, errors, order = convergence(row)
            panel.plot(steps, errors, label=f"{name}: order {order:.2f}", **looks[name])
            marks += steps
        draw.logarithmic(panel.xaxis, panel.yaxis)
        draw.ticks(panel.xaxis, marks)
        panel.set(xlabel="steps", ylabel="error")
        draw.legend_of(figure, [panel])
    return figure


def _estimates(rows: pd.DataFrame) -> Any:
    """Errors of one probe in R^D and R^K beside theory, a row for each field and noise."""
    fields = estimates(rows)
    names = [f"{f.field}, {f.dim} → {f.width:g}, {f.noise}" for f in fields.itertuples()]
    heights = np.arange(len(fields))[::-1]
    looks = draw.looks(SPACES.values())
    with draw.figure(1, 1, 0.3 * len(fields) + 1) as (figure, axes):
        panel = axes[0, 0]
        for place, space in SPACES.items():
            if f"rmse_{place}" not in fields:
                continue
            look = looks[space]
            bars = {"xerr": 2 * fields[f"rmse_{place}_se"], **look, "ls": ""}
            panel.errorbar(fields[f"rmse_{place}"], heights, label=f"in {space}", **bars)
            marks = {"color": look["color"], "marker": "|", "ms": 13, "ls": ""}
            panel.plot(fields[f"theory_{place}"], heights, label=f"theory in {space}", **marks)
        panel.set_yticks(heights, names)
        panel.set(xlabel="error of one probe / ‖∂f/∂x‖", xlim=(0, None))
        draw.legend_of(figure, [panel])
    return figure
