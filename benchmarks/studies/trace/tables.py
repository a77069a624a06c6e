"""Tables of the trace study: cost beside the determinant, errors, and errors at equal time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import RECORDS, Column, Table, cells
from benchmarks.core.naming import series
from flows.continuous.trace import Trace

NAMES = {  # of the works that are no estimator
    "field": "field alone",
    "kept": "closed_form, kept",
    "determinant": "determinant",
    "jacobian": "forming the Jacobian",
    "trace_of_formed": "trace of a formed Jacobian",
    "determinant_of_formed": "log|det| of a formed Jacobian",
}
WHICH = {  # which row it is
    "field": Column("Field"),
    "dim": Column("D"),
    "exact": Column("Exact trace"),
    "name": Column("Work"),
    "mode": Column("Mode"),
    "noise": Column("Noise"),
    "probes": Column("Probes"),
}
MEASURED = {
    "evaluation_seconds": Column.of("evaluation_seconds", row=True, digits=".3g"),
    "seconds_ratio": Column("Seconds / field", digits=".3g", kind="time"),
    "flops_ratio": Column("FLOPs / field", digits=".3g"),
    "error": Column.of("trace_error", digits=".3g"),
    "trace_rmse_theory": Column.of("trace_rmse_theory", digits=".3g"),
}
ESTIMATED = {**MEASURED, "error": replace(MEASURED["error"], error="trace_rmse_se")}
REACHED = {
    "seconds_ratio": Column("Seconds of the fewest probes / exact", digits=".3g", kind="time"),
    "fitting": Column(
        "Probes that fit", prefix="fitting.below", mark="fitting.beyond", kind="time"
    ),
    "error": replace(MEASURED["error"], kind="time"),  # of as many as fit in a time
}
COSTS = ("evaluation_seconds", "seconds_ratio", "flops_ratio")
COST_NOTE = (
    "Medians of one evaluation without a graph; its noise is drawn before, as in a solve. Error: "
    "the largest in a batch for exact traces, the root mean square over rows and draws for "
    "estimates, here with the fewest probes; against the trace of the float64 Jacobian J, in "
    "units of ‖J‖, the root mean square over rows of its Frobenius norm. The determinant "
    "includes forming the Jacobian; the rows below it show its parts. If H < D the determinant "
    "is 0, and only its cost is meaningful. Kept: a later evaluation of a solve, which reuses "
    "the products of weights that do not depend on t."
)
ERROR_NOTE = (
    "Root mean square error over rows and draws, relative to ‖J‖, with its standard error. Theory, "
    "with S = (J + Jᵀ)/2 and K probes: √(2 ‖S‖²/K) for Gaussian noise, √(2 (‖S‖² − Σ S_ii²)/K) for "
    "Rademacher noise."
)
TIME_NOTE = (
    "The largest number of whole probes that takes no longer than an exact trace, and the error "
    "with it, interpolated between the measured numbers of probes. Exact traces are the closed "
    "form, and the fastest one that works for fields without a closed form."
)


class Fit(NamedTuple):
    """How many whole probes fit in a time, 0 where not even the fewest do, and their error."""

    probes: int
    error: float


def fitting(
    budget: float, probes: Sequence[int], seconds: Sequence[float], errors: Sequence[float]
) -> Fit:
    """What fits in ``budget`` seconds, by interpolation between the numbers that were measured.

    Seconds are taken as linear in the probes and errors as linear in their inverse square root,
    which is what theory has. It never goes beyond the largest number of probes.
    """
    order = np.argsort(probes)
    k, error = np.asarray(probes, float)[order], np.asarray(errors, float)[order]
    spent = np.maximum.accumulate(np.asarray(seconds, float)[order])  # more cannot take less
    if budget < spent[0]:
        return Fit(0, float("nan"))
    fits = int(np.interp(budget, spent, k) + 1e-9)
    return Fit(fits, float(np.interp(-(fits**-0.5), -(k**-0.5), error)))


def tables(frame: pd.DataFrame) -> list[Table]:
    """Cost of one evaluation, estimates by their probes, and what they reach in equal time."""
    rows = evaluations(frame)
    table = rows.assign(**{name: cells(rows, rows[name]) for name in COSTS})
    costs, estimates = table[~rows["estimate"] | rows["fewest"]], table[rows["estimate"]]
    return [
        _table("trace-cost", "Cost of one evaluation", COST_NOTE, costs, MEASURED),
        _table("trace-error", "Estimates", ERROR_NOTE, estimates, ESTIMATED),
        _by_time(rows),
    ]


def evaluations(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each case, in order, times of a row of data.

    Columns: field, dim, work (the setting), estimator, name (of the work or its estimator), mode
    and noise (None where a work has one alone), probes (of estimates), estimate, fewest (probes of
    the field), error with trace_rmse_se and trace_rmse_theory, evaluation_seconds with its raw
    values, the ratios of seconds and FLOPs to those of the field alone, status and records.
    """
    options = pd.DataFrame([vars(Trace.of(trace)) for trace in frame["option.trace"]], frame.index)
    rows = frame[["dim", "status"]].assign(field=_fields(frame), work=frame["setting.work"])
    rows[RECORDS] = [(key,) for key in frame["key"]]
    rows["estimator"] = options["estimator"]
    rows["name"] = options["estimator"].where(rows["work"] == "trace", rows["work"].map(NAMES))
    missing = pd.Series(float("nan"), frame.index)
    estimated = frame.get("trace_rmse", missing)
    rows["error"] = estimated.fillna(frame.get("trace_error", missing))
    for metric in ("trace_rmse_se", "trace_rmse_theory"):
        rows[metric] = frame.get(metric, missing)
    rows["estimate"] = estimated.notna().groupby(rows["name"]).transform("any")
    rows["probes"] = options["probes"].where(rows["estimate"])
    for option in ("mode", "noise"):
        varies = options[option].groupby(rows["name"]).transform("nunique") > 1
        rows[option] = options[option].where(varies, None)
    rows["fewest"] = rows["probes"] == rows.groupby("field")["probes"].transform("min")
    place = pd.MultiIndex.from_frame(rows[["field", "dim"]])
    for ratio, metric in (("seconds", "evaluation_seconds"), ("flops", "evaluation_flops")):
        values = frame.get(metric, missing)
        alone = values[rows["work"] == "field"].set_axis(place[rows["work"] == "field"])
        rows[f"{ratio}_ratio"] = values / alone.reindex(place).to_numpy()
    raw, batch = frame.get("evaluation_seconds.values", missing), frame["batch"]
    rows["evaluation_seconds"] = frame.get("evaluation_seconds", missing) / batch
    rows["evaluation_seconds.values"] = [
        np.asarray(values) / n for values, n in zip(raw, batch, strict=True)
    ]
    rows["place"] = rows["work"].replace("trace", "kept").map(list(NAMES).index)
    order = ["field", "dim", "place", "name", "mode", "noise", "probes"]
    return rows.sort_values(order, ignore_index=True).drop(columns="place")


def _fields(frame: pd.DataFrame) -> list[str]:
    """The name of each row's field: the flow, and what tells it from others but D."""
    return series(frame.drop(columns=["option.trace", "setting.work"]))


def _table(
    name: str, title: str, note: str, rows: pd.DataFrame, columns: Mapping[str, Column]
) -> Table:
    """The rows with these columns, and of those that say which row it is D and what differs."""
    known = {w: column for w, column in WHICH.items() if w in rows}
    which = [w for w in known if w in ("dim", "exact") or rows[w].dropna().nunique() > 1]
    beside = [part for column in columns.values() for part in column.beside]
    table = rows[[*which, *columns, *beside, RECORDS]].reset_index(drop=True)
    return Table(name, title, note, table, columns={**known, **columns})


def _by_time(rows: pd.DataFrame) -> Table:
    """What each estimate reaches in the time of each exact trace."""
    table = pd.DataFrame(equal_times(rows), columns=[*WHICH, *REACHED, "fewest", "most", RECORDS])
    none, all_of_them = table["fitting"] == 0, table["fitting"] == table["most"]
    table["fitting"] = table["fitting"].mask(none, table["fewest"])
    table["fitting.below"] = none.map({True: "fewer than ", False: ""})
    table["fitting.beyond"] = all_of_them.map({True: "or more", False: ""})
    title = "Estimates in the time of exact traces"
    return _table("trace-equal-time", title, TIME_NOTE, table.drop(columns="probes"), REACHED)


def equal_times(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A row for each D, estimate and exact trace: the closed forms, and the quickest of others.

    ``fitting`` is the number of probes that fit, 0 if not even the ``fewest`` that were measured.
    """
    for (field, dim), group in rows[rows["evaluation_seconds"].notna()].groupby(["field", "dim"]):
        exact = group[group["work"].isin(["trace", "kept"]) & ~group["estimate"]]
        closed = exact["estimator"] == "closed_form"
        quickest = exact[~closed].nsmallest(1, "evaluation_seconds")
        for _, reference in pd.concat([exact[closed], quickest]).iterrows():
            estimates = group[group["estimate"]].groupby(["name", "mode", "noise"], dropna=False)
            for (name, mode, noise), line in estimates:
                probes, seconds = line["probes"].astype(int).tolist(), line["evaluation_seconds"]
                budget = reference["evaluation_seconds"]
                fit = fitting(budget, probes, seconds.tolist(), line["error"].tolist())
                place = {"field": field, "dim": dim, "exact": reference["name"], "name": name}
                yield {
                    **place,
                    "mode": mode,
                    "noise": noise,
                    "seconds_ratio": seconds.iloc[0] / budget,
                    "fitting": fit.probes,
                    "fewest": probes[0],
                    "most": probes[-1],
                    "error": fit.error,
                    RECORDS: (*reference[RECORDS], *chain.from_iterable(line[RECORDS])),
                }
