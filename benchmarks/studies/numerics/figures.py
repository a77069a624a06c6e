"""Figures of numerics: error and cost of gradients; errors of identities and of estimates."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import Column, Figure
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import name_runs
from benchmarks.plotting import draw
from benchmarks.studies.numerics import tables
from benchmarks.studies.numerics.tables import MASS, MASS_NOTE, done, with_solver

LOOKS = draw.looks(("adjoint", "backprop", "seminorm"))
LOOKS["adjoint"] |= {"lw": 3.2, "markersize": 7.5}  # seen beneath a seminorm that equals it
STYLES = {"float64": {"ls": "-"}, "float32": {"ls": "--", "markerfacecolor": "white"}}
SPACES = {"d": "R^D", "k": "R^K"}
GRADIENTS = (
    "Gradients by {method}, a column for each number of training updates; medians over seeds. "
    "Errors are relative to a float64 gradient at a tight tolerance. Time: loss and backward over "
    "the reference workload. Bottom: the most bytes held for backward against the evaluations of "
    "the forward solve."
)


def figures(frame: pd.DataFrame) -> Iterator[Figure]:
    """Error and cost of gradients; mass by tolerance; identities that fall or are estimated."""
    parts = dict(list(frame[frame["status"] == "done"].groupby("setting.part")))
    if "gradients" in parts:
        for (data, name), rows in with_solver(parts["gradients"]).groupby(["dataset", "series"]):
            slug = re.sub(r"[^\w.]+", "-", f"{name}-{data}").lower()
            title = f"Error and cost of the gradient, {name} on {data}"
            methods = rows.sort_values(["fixed", "method"])["method"]
            method = "dopri5" if "dopri5" in set(methods) else methods.iloc[0]
            rows = rows[rows["method"] == method]
            note = GRADIENTS.format(method=method)
            yield Figure.of(f"gradients-{slug}", title, note, _gradients, rows)
    if "mass" in parts:
        yield Figure.of("mass", MASS, MASS_NOTE, _masses, with_solver(parts["mass"]))
    for identity, picture in (("order", _orders), ("rate", _orders), ("estimate", _estimates)):
        if len(rows := name_runs(done(frame, identity), *tables.NAMES)):
            title, note = tables.IDENTITIES[identity]
            yield Figure.of(f"identities-{identity}", title, note, picture, rows)


def _gradients(rows: pd.DataFrame) -> Any:
    """Error against setting and time, bytes against evaluations, a column for each field."""
    setting = "step size" if rows["fixed"].iloc[0] else "tolerance"
    error = Column.of("gradient_error", label="error of the gradient").header
    memory = Column.of("gradient_bytes", label="held for backward").header
    panels = [("setting", "gradient_error", setting, error)]
    if "gradient_seconds" in rows.dropna(axis=1, how="all"):
        rows = rows.assign(time=rows["gradient_seconds"] / rows["reference_seconds"])
        panels.append(("time", "gradient_error", "time / reference", error))
    panels.append(("nfe_forward", "gradient_bytes", "forward NFE", memory))
    fields = list(rows.groupby("updates"))
    options: dict[str, Any] = {"height": 2.6, "sharex": "row", "sharey": "row"}
    with draw.figure(len(panels), len(fields), **options) as (figure, axes):
        for line, (x, y, below, beside) in zip(axes, panels, strict=True):
            for panel, (updates, field) in zip(line, fields, strict=True):
                for (gradient, dtype), group in field.groupby(["gradient", "dtype"]):
                    points = group.assign(at=group["setting"]).groupby("at")[[x, y]].median()
                    points = points[(points > 0).all(axis=1)]
                    look = {**LOOKS[str(gradient)], **STYLES[str(dtype)]}
                    look["label"] = f"{gradient}, {dtype}"
                    panel.plot(points[x], points[y] * METRICS[y].scale, **look)
                title = f"{int(str(updates)):,} updates" if updates else "untrained"
                draw.finish(panel, title=title, xlabel=below)
            line[0].set_ylabel(beside)
        draw.legend_of(figure, axes.flat)
    return figure


def _masses(rows: pd.DataFrame) -> Any:
    """|∫ p dx - 1| against the tolerance: a faint point for each seed, a line through medians."""
    names = rows["series"] + ", " + rows["dtype"]
    rows = rows.assign(name=names).query("mass_error > 0")
    looks, ends = draw.looks(rows["name"]), []
    with draw.figure() as (figure, axes):
        panel = axes[0, 0]
        for name, group in rows.groupby("name"):
            look, medians = looks[str(name)], group.groupby("setting")["mass_error"].median()
            panel.plot(group["setting"], group["mass_error"], **{**look, "ls": "", "alpha": 0.3})
            panel.plot(medians.index, medians, **look)
            ends.append(draw.End(str(name), medians.iloc[0], str(name)))
        ends_of = [rows["setting"].min(), rows["setting"].max()]
        panel.plot(ends_of, ends_of, ls=":", lw=1, color="#777777")
        draw.finish(panel, xlabel="tolerance", ylabel="|∫ p dx − 1|")
        panel.invert_xaxis()
        draw.label_ends(panel, ends, looks, 3.0)
    return figure


def _orders(rows: pd.DataFrame) -> Any:
    """Errors against the number of steps, with the order of convergence."""
    method = rows.get("setting.method", pd.Series(index=rows.index, dtype=object))
    names = method.astype(object).fillna(rows["option.time"] + ", D = " + rows["dim"].astype(str))
    looks, marks = draw.looks(names), []
    with draw.figure() as (figure, axes):
        panel = axes[0, 0]
        for name, row in zip(names, rows.to_dict("records"), strict=True):
            steps, errors, order = tables.convergence(row)
            panel.plot(steps, errors, label=f"{name}: order {order:.2f}", **looks[name])
            marks += steps
        draw.finish(panel, marks=marks, xlabel="steps", ylabel="error")
        draw.legend_of(figure, [panel])
    return figure


def _estimates(rows: pd.DataFrame) -> Any:
    """Errors of one probe in R^D and R^K beside theory, a row for each field and noise."""
    fields = tables.estimates(rows)
    names = [f"{f.field}, {f.dim} → {f.width:g}, {f.noise}" for f in fields.itertuples()]
    heights, looks = np.arange(len(fields))[::-1], draw.looks(SPACES.values())
    with draw.figure(1, 1, 0.3 * len(fields) + 1) as (figure, axes):
        panel = axes[0, 0]
        for place, space in SPACES.items():
            if f"rmse_{place}" not in fields:
                continue
            bars = {"xerr": 2 * fields[f"rmse_{place}_se"], **looks[space], "ls": ""}
            panel.errorbar(fields[f"rmse_{place}"], heights, label=f"in {space}", **bars)
            marks = {"color": looks[space]["color"], "marker": "|", "ms": 13, "ls": ""}
            panel.plot(fields[f"theory_{place}"], heights, label=f"theory in {space}", **marks)
        panel.set_yticks(heights, names)
        panel.set(xlabel="error of one probe / ‖∂f/∂x‖", xlim=(0, None))
        draw.legend_of(figure, [panel])
    return figure
