"""The table of every case of the cost study, by dimension: what was measured, a row of data."""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import ONCE
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, per_row
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import RULES
from flows.continuous import Solver

SETTINGS = {  # column: header, and the column of the records
    "hidden": ("H", "option.hidden"),
    "depth": ("Depth", "option.depth"),
    "layers": ("Layers", "option.layers"),
    "batch": ("Batch", "batch"),
    "trace": ("Trace", "option.trace"),
    "solver": ("Solver", "option.solver"),
}
RELATIVE = "log_prob_relative"  # seconds over those of the reference workload
MEASURED = (
    "parameters",
    "log_prob_nfe",
    "log_prob_flops",
    "log_prob_determinant_flops",
    "step_flops",
    "sample_flops",
    "log_prob_seconds",
    "step_seconds",
    "sample_seconds",
    "log_prob_first_seconds",
    "build_seconds",
    RELATIVE,
    "step_saved_bytes",
    "step_peak_bytes",
    "step_resident_bytes",
    ONCE,
)
WHOLE = ("step_resident_bytes", ONCE)  # shown of a batch, others of a row
NOTES = {
    "log_prob_determinant_flops": "Determinant: the LU factorisations within log_prob; the rest "
    "forms the matrices that are factorised.",
    "log_prob_first_seconds": "First log_prob: the first call of a newly built flow.",
    RELATIVE: "log_prob / reference: the time of the batch over that of the reference workload "
    "in the same rounds; this ratio can be compared between machines.",
    "step_saved_bytes": "Saved: the most bytes that autograd holds for the backward pass of a "
    "training step.",
    "step_peak_bytes": "Peak: the most bytes of live tensors during a training step.",
    "step_resident_bytes": "Resident: the growth of a fresh process's resident set by a training "
    "step.",
    ONCE: "Precomputed: products of weights that a solve computes once for the batch.",
}


def table(frame: pd.DataFrame) -> Table:
    """A row for each case, with what was measured of it."""
    table = pd.DataFrame({"flow": sizes.flows(frame), "dim": frame["dim"]}, index=frame.index)
    columns, common = {"flow": Column("Flow"), "dim": Column("D")}, []
    for name, (header, column) in _settings(frame).items():
        if len(frame) > 1 and column.nunique(dropna=False) == 1:
            common += [f"{header} {_words(value)}" for value in column.dropna().unique()]
        else:
            table[name], columns[name] = column, Column(header)
    order = [str(name) for name in table]
    values = _values(frame)
    for metric in [name for name in MEASURED if name in values and values[name].notna().any()]:
        table[metric], columns[metric] = cells(frame, values[metric]), _column(metric)
    table[RECORDS] = [(key,) for key in frame["key"]]
    notes = ["Medians of the raw samples.", *_uncounted(frame)]
    notes += [text for metric, text in NOTES.items() if metric in table]
    if common:
        notes.append(f"In all rows: {', '.join(common)}.")
    table = table.sort_values(order, ignore_index=True)
    title = "Cost by dimension"
    return Table("cost-by-dimension", title, " ".join(notes), table, columns=columns)


def _values(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Values of the metrics that the records have, of a row where they are of a batch."""
    by_row = [m for m in MEASURED if m in frame and METRICS[m].per and m not in WHOLE]
    values = {m: per_row(frame, m) if m in by_row else frame[m] for m in MEASURED if m in frame}
    if {"log_prob_seconds", "reference_seconds"} <= set(frame):
        values[RELATIVE] = frame["log_prob_seconds"] / frame["reference_seconds"]
    return values


def _column(metric: str) -> Column:
    if metric == RELATIVE:
        return Column("log_prob / reference", digits=".4g", kind="time")
    row = bool(METRICS[metric].per) and metric not in WHOLE
    digits = ",.0f" if metric == "parameters" else ".4g"
    return Column.of(metric, row=row, digits=digits)


def _uncounted(frame: pd.DataFrame) -> list[str]:
    """Operators that the FLOPs are without, by flow."""
    seen: dict[str, set[str]] = {}
    noted = frame["notes"].dropna() if "notes" in frame else frame["flow"][:0]
    for flow, notes in zip(frame.loc[noted.index, "flow"], noted, strict=True):
        for operators in notes.values():
            seen.setdefault(flow, set()).update(operators)
    listed = [f"{flow}: {', '.join(sorted(names))}" for flow, names in seen.items() if names]
    return [f"Operators whose FLOPs are not counted: {'; '.join(listed)}."] if listed else []


def _settings(frame: pd.DataFrame) -> dict[str, tuple[str, pd.Series]]:
    """Header and values of each setting: numbers, and short texts for all else."""
    settings = {
        name: (header, _whole(frame[column]))
        for name, (header, column) in SETTINGS.items()
        if column in frame
    }
    for name, words in (("trace", _words), ("solver", _solver)):
        if name in settings:
            header, values = settings[name]
            settings[name] = header, values.map(words, na_action="ignore")
    widths = [
        frame[rule].map(words.format, na_action="ignore").astype(object)
        for rule, words in RULES.items()
        if rule in frame
    ]
    for width in widths:
        known = settings.get("width", ("Width", width))[1]
        settings["width"] = "Width", known.where(width.isna(), width)
    return settings


def _whole(column: pd.Series) -> pd.Series:
    """Sizes as whole numbers, which flows of other studies that have none of them make floats."""
    known = pd.api.types.is_float_dtype(column) and bool(column.notna().all())
    return column.astype(int) if known else column


def _words(value: Any) -> str:
    """ "rk4, step size 0.5" of {"method": "rk4", "step_size": 0.5}; numbers and words alone."""
    if isinstance(value, dict):
        named = {key.replace("_", " "): v for key, v in value.items() if v is not None}
        return ", ".join(v if isinstance(v, str) else f"{k} {_words(v)}" for k, v in named.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _solver(options: Any) -> str:
    """ "rk4, step size 0.5, adjoint": method, steps, gradient, and what is not by default."""
    solver, default = Solver.of(options), Solver()
    steps = ("step_size",) if solver.fixed else ("rtol", "atol")
    named = {name: getattr(solver, name) for name in ("method", *steps, "gradient")}
    for name in ("first_step", "max_steps", "error_norm"):
        if getattr(solver, name) != getattr(default, name):
            named[name] = getattr(solver, name)
    return _words(named)
