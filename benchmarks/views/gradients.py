"""Gradients by adjoint, seminorm and backprop, shown: their errors and what they cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from benchmarks import draw
from benchmarks.exhibit import Figure, Table
from benchmarks.stats import ratio_of_medians

LOOKS = draw.looks(("adjoint", "backprop", "seminorm"))
LOOKS["adjoint"] |= {"lw": 3.2, "markersize": 7.5}  # seen beneath a seminorm that equals it
STYLES: dict[str, dict[str, Any]] = {
    "float64": {"ls": "-"},
    "float32": {"ls": "--", "markerfacecolor": "white"},
}
FORWARD = {"color": "black", "lw": 1}
EPSILON = 2.0**-23  # spacing of float32's numbers at one
PREFERRED = "dopri5"  # the method that is shown alone, where it was measured
LEVELS = (1e-2, 1e-3, 1e-4, 1e-5)  # errors that a gradient may be asked to keep
PLACE = ["dataset", "name", "updates", "dtype"]  # a field, in one precision
COLUMNS = {  # header -> metric, factor, format
    "Error": ("gradient_error", 1, ".1e"),
    "Cosine": ("gradient_cosine", 1, ".6f"),
    "Saved (MB)": ("gradient_bytes", 1e-6, ".3g"),
    "NFE forward": ("nfe_forward", 1, ".0f"),
    "NFE backward": ("nfe_backward", 1, ".0f"),
}
RATIO = "Time / backprop"


def tables(frame: pd.DataFrame) -> list[Table]:
    """What a gradient of a given error costs, and all figures by solver setting."""
    if frame.empty:
        return []
    rows = _told(frame)
    meaning = (
        "Error: ‖g - g*‖ / ‖g*‖ over all parameters, g* by backprop in float64 at a tight "
        "tolerance. Saved: the most bytes that autograd holds for backward at one time, parameters "
        "excluded. Medians over seeds. "
    )
    quickest = "The quickest solver setting of at most this error. Fixed steps have no seminorm."
    settings = (
        "Setting: the tolerance rtol = atol, or the step size of a fixed-step method. Time: loss "
        "and backward, timed in the same shuffled rounds, as a ratio of medians with its 95 % "
        "bootstrap interval."
    )
    digits = {header: digits for header, (_, _, digits) in COLUMNS.items()}
    digits |= {"Error at most": "g", "Setting": "g", "Time / reference": ".3g", RATIO: ".3g"}
    made = [
        ("gradients-at-error", "The quickest gradient of an error", quickest, _by_error(rows)),
        ("gradients", "Each gradient at each solver setting", settings, _by_setting(rows)),
    ]
    return [
        Table(name, title, meaning + note, pd.DataFrame(found), digits, records=tuple(frame["key"]))
        for name, title, note, of in made
        if (found := list(of))
    ]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Of each flow and data set: error, saved bytes and evaluations; error against seconds."""
    done = frame[frame["status"] == "done"]
    return list(_figures(_told(done))) if len(done) else []


def _figures(done: pd.DataFrame) -> Iterator[Figure]:
    for (data, name), group in done.groupby(["dataset", "name"]):
        slug = re.sub(r"[^\w.]+", "-", f"{name}-{data}").lower()
        about = "Columns: before and after training. Hollow marks: float32. "
        costs = (
            f"Top: error of the gradient by {_shown(group)} against a tight float64 one, itself "
            "known to the dotted line; thin dashes: float32's spacing at one. Middle: most bytes "
            "held for backward, all solvers. Bottom: evaluations backward, where backprop has none."
        )
        work = (
            "Error against the seconds of loss and backward over those of the reference workload, "
            "along each solver's settings: down and to the left is better."
        )
        for kind, title, note, picture in (
            ("", "Error and cost of the gradient", costs, _costs),
            ("work-", "Error of the gradient against seconds", work, _work),
        ):
            title, whole = f"{title}, {name} on {data}", partial(picture, group)
            yield Figure(f"gradients-{kind}{slug}", title, about + note, whole, tuple(group["key"]))


def _told(frame: pd.DataFrame) -> pd.DataFrame:
    """The records with what tells them apart in columns: name, method, setting and gradient."""
    solvers = frame["option.solver"]
    told = frame.assign(
        method=solvers.map(lambda s: s["method"]),
        fixed=solvers.map(lambda s: s["step_size"] is not None),
        setting=solvers.map(lambda s: s["step_size"] or s["rtol"]),
        gradient=solvers.map(lambda s: s["gradient"]),
    )
    same = frame.loc[:, frame.columns.str.match(r"flow$|batch$|setting\.|option\.(?!solver$)")]
    return told.assign(name=draw.series(same))


def _field(updates: int) -> str:
    return f"{updates:,} updates" if updates else "untrained"


def _heading(place: tuple[Any, ...]) -> dict[str, Any]:
    data, name, updates, dtype = place
    return {"Data": data, "Flow": name, "Field": _field(updates), "Precision": dtype}


def _by_setting(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A row for each field, solver setting and gradient, loosest first; over seeds."""
    rows = rows.assign(order=-rows["setting"])
    for (*place, method, _), block in rows.groupby([*PLACE, "method", "order"]):
        base = block[(block["gradient"] == "backprop") & (block["status"] == "done")]
        for gradient, group in block.groupby("gradient"):
            row = _heading(tuple(place))
            row |= {"Solver": method, "Setting": group["setting"].iloc[0], "Gradient": gradient}
            done = group[group["status"] == "done"]
            if done.empty:
                yield row | {"Error": group["status"].iloc[0]}
                continue
            row |= {h: done[metric].median() * by for h, (metric, by, _) in COLUMNS.items()}
            yield row | (_ratio(done, base) if gradient != "backprop" else {RATIO: 1.0})


def _ratio(done: pd.DataFrame, base: pd.DataFrame) -> dict[str, Any]:
    """Seconds over backprop's of the same seed, all seeds pooled."""
    beside = base.set_index("seed")["gradient_seconds.values"]
    ours, theirs = [], []
    for seed, samples in zip(done["seed"], done["gradient_seconds.values"], strict=True):
        if seed in beside.index:
            scale = np.median(beside[seed])
            ours.append(np.asarray(samples) / scale)
            theirs.append(np.asarray(beside[seed]) / scale)
    if not ours:
        return {}
    value, low, high = ratio_of_medians(np.concatenate(ours), np.concatenate(theirs))
    return {RATIO: value, "95 % interval": f"{low:.3g} to {high:.3g}"}


def _by_error(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """For each field, error and gradient the quickest solver setting that keeps the error."""
    done = rows[rows["status"] == "done"]
    if done.empty:
        return
    done = done.assign(relative=done["gradient_seconds"] / done["reference_seconds"])
    metrics = ["relative", *(metric for metric, _, _ in COLUMNS.values())]
    settings = (
        done.groupby([*PLACE, "gradient", "method", "setting"])[metrics].median().reset_index()
    )
    for place, field in settings.groupby(PLACE):
        for level, gradient in product(LEVELS, sorted(field["gradient"].unique())):
            kept = field[(field["gradient"] == gradient) & (field["gradient_error"] <= level)]
            for _, best in kept.sort_values("relative").head(1).iterrows():
                row = _heading(place) | {"Error at most": level, "Gradient": gradient}
                row |= {"Quickest": f"{best['method']} {best['setting']:g}"}
                row |= {"Time / reference": best["relative"]}
                yield row | {h: best[metric] * by for h, (metric, by, _) in COLUMNS.items()}


def _shown(done: pd.DataFrame) -> str:
    """The method that is shown alone: `PREFERRED`, else the first adaptive one, else the first."""
    known = set(zip(done["fixed"], done["method"] != PREFERRED, done["method"], strict=True))
    return str(min(known)[-1])


def _costs(done: pd.DataFrame) -> Any:
    """Error, saved bytes and backward evaluations, a column for each field."""
    method, fields = _shown(done), sorted(done["updates"].unique())
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
                saved.plot(group["nfe_forward"], group["gradient_bytes"], **points)
            for dtype, group in here[here["method"] == method].groupby("dtype"):
                _line(nfe, group, "setting", "nfe_forward", {**FORWARD, **STYLES[str(dtype)]})
            error.axhline(here["reference_shift"].median(), color="#777777", ls=":", lw=1)
            if "float32" in set(here["dtype"]):
                error.axhline(EPSILON, color="#777777", ls="--", lw=0.8)
            draw.logarithmic(*(panel.xaxis for panel in axes[:, column]), error.yaxis, saved.yaxis)
            error.set(title=f"{_field(updates)}, {method}")
            saved.set(title=f"{_field(updates)}, all solvers", xlabel="forward NFE")
            nfe.set(title=f"{_field(updates)}, {method}")
            for panel in (error, nfe):
                panel.set(xlabel="step size" if fixed else "tolerance")
        error, saved, nfe = axes[:, 0]
        error.set(ylabel="error of the gradient")
        saved.set(ylabel="bytes held for backward")
        nfe.set(ylabel="NFE of the adjoint", ylim=(0, None))
        shown = {name: LOOKS[name] for name in LOOKS if name in set(done["gradient"])}
        _legend(figure, done, {**shown, "forward solve": FORWARD})
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
        draw.logarithmic(*(axis for panel in axes.flat for axis in (panel.xaxis, panel.yaxis)))
        for panel in axes[-1]:
            panel.set(xlabel="seconds / reference")
        for panel in axes[:, 0]:
            panel.set(ylabel="error of the gradient")
        _legend(figure, done, looks)
    return figure


def _legend(figure: Any, done: pd.DataFrame, looks: dict[str, Any]) -> None:
    """The series' looks, and those of the precisions."""
    handles = {name: Line2D([], [], **look) for name, look in looks.items()}
    for dtype, style in STYLES.items():
        if dtype in set(done["dtype"]):
            handles[dtype] = Line2D([], [], color="#777777", marker="o", **style)
    draw.legend_below(figure, list(handles.values()), list(handles))
