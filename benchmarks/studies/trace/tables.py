"""Traces of Jacobians, shown: cost beside the determinant, errors, and errors at equal time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import RECORDS, Figure, Table, cells
from benchmarks.core.series import series
from benchmarks.studies.trace import figures as trace_pictures
from benchmarks.studies.trace.figures import ERROR
from flows.continuous.trace import Trace

NAMES = {  # of the works that are no estimator
    "field": "field alone",
    "kept": "closed_form, kept",
    "determinant": "determinant",
    "jacobian": "forming the Jacobian",
    "trace_of_formed": "trace of a formed one",
    "determinant_of_formed": "log|det| of a formed one",
}
WHICH = ["Field", "D", "Work", "Mode", "Noise", "Probes"]
COST = {"µs/row": ".3g", "Seconds / field": ".3g", "FLOP / field": ".3g"}
COST_NOTE = (
    "Medians of one evaluation without a graph, its noise drawn before as for a solve. Error: "
    "the largest of a batch for exact traces, the root mean square over rows and draws for "
    "estimates, here with the fewest probes; against the Jacobian in float64, relative to the root "
    "mean square of its Frobenius norm ‖J‖ over rows. The determinant is that of a Jacobian formed "
    "first, its parts below it; where H < D it is 0, and only its cost says something. Kept: a "
    "later evaluation of a solve that keeps the products of weights that t does not change."
)
ERROR_NOTE = (
    "Root mean square error over rows and draws, relative to ‖J‖, with its standard error. Theory, "
    "with S = (J + Jᵀ)/2 and K probes: √(2 ‖S‖²/K) for Gaussian noise, √(2 (‖S‖² − Σ S_ii²)/K) for "
    "Rademacher noise."
)
TIME_NOTE = (
    "As many whole probes as take no longer than an exact trace, and the error that they leave, by "
    "interpolation between the numbers of probes that were measured. Beside the closed form: the "
    "quickest exact trace of a field that has none."
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
    if frame.empty:
        return []
    known, headers = evaluations(frame), [*WHICH, *COST, ERROR, "Theory", RECORDS]
    cost = _shown(known[~known["estimate"] | known["fewest"]], headers)
    error = _shown(known[known["estimate"]], [*headers, "±"])
    equal = pd.DataFrame(_equal_times(known))
    digits, title = {**COST, ERROR: ".3g", "Theory": ".3g"}, "Estimates in the time of exact traces"
    return [
        Table("trace-cost", "Cost of one evaluation", COST_NOTE, cost, digits),
        Table("trace-error", "Estimates", ERROR_NOTE, error, digits, {ERROR: "±"}),
        Table("trace-equal-time", title, TIME_NOTE, _shown(equal, [*map(str, equal)])),
    ]


def figures(frame: pd.DataFrame) -> list[Figure]:
    """Seconds against D; errors against probes, seconds and D."""
    done = frame[frame["status"] == "done"]
    if done.empty:
        return []
    known, keys = evaluations(done), tuple(done["key"])
    costs, errors = partial(trace_pictures.costs, known), partial(trace_pictures.errors, known)
    return [
        Figure("trace-cost", "Trace and determinant", trace_pictures.COSTS, costs, keys),
        Figure("trace-error", "Errors of traces", trace_pictures.ERRORS, errors, keys),
    ]


def evaluations(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows as the tables have them, in order, and what else pictures and claims need."""
    work = frame["setting.work"]
    traces = pd.DataFrame([vars(Trace.of(trace)) for trace in frame["option.trace"]], frame.index)
    known = pd.DataFrame({"Field": _fields(frame), "D": frame["dim"], "work": work})
    known[RECORDS] = [(key,) for key in frame["key"]]
    known["Work"] = traces["estimator"].where(work == "trace", work.map(NAMES))
    measured = {"rmse": "trace_rmse", "±": "trace_rmse_se", "Theory": "trace_rmse_theory"}
    measured |= {"seconds": "evaluation_seconds", "raw": "evaluation_seconds.values"}
    for name, metric in {**measured, "flops": "evaluation_flops", ERROR: "trace_error"}.items():
        known[name] = frame.get(metric, pd.Series(float("nan"), frame.index))
    known["estimate"] = known["rmse"].notna().groupby(known["Work"]).transform("any")
    known["Probes"] = traces["probes"].where(known["estimate"])
    for header, column in (("Mode", "mode"), ("Noise", "noise")):
        varies = traces[column].groupby(known["Work"]).transform("nunique") > 1
        known[header] = traces[column].where(varies, None)
    known["fewest"] = known["Probes"] == known.groupby("Field")["Probes"].transform("min")
    known[ERROR] = known["rmse"].fillna(known[ERROR])
    alone = known[work == "field"].set_index(["Field", "D"])
    place = pd.MultiIndex.from_frame(known[["Field", "D"]])
    for header, column in (("Seconds / field", "seconds"), ("FLOP / field", "flops")):
        known[header] = cells(frame, known[column] / alone[column].reindex(place).to_numpy())
    known["seconds"] /= frame["batch"]
    known["raw"] = [np.asarray(v) / n for v, n in zip(known["raw"], frame["batch"], strict=True)]
    known["µs/row"] = cells(frame, known["seconds"] * 1e6)
    known["place"] = work.replace("trace", "kept").map(list(NAMES).index)
    return known.sort_values(["Field", "D", "place", *WHICH[2:]], ignore_index=True)


def _fields(frame: pd.DataFrame) -> list[str]:
    """The name of each row's field: the flow, and what tells it from others but D."""
    varied = ["option.trace", "setting.work"]
    return series(frame.drop(columns=varied))


def _shown(known: pd.DataFrame, headers: Sequence[str]) -> pd.DataFrame:
    """These columns, but of those that say which row it is only D and what differs."""
    told = [h for h in headers if h not in WHICH or h == "D" or known[h].dropna().nunique() > 1]
    return known[told].reset_index(drop=True)


def _equal_times(known: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A row for each D, estimate and exact trace: the closed forms, and the quickest of others."""
    for (field, dim), group in known[known["seconds"].notna()].groupby(["Field", "D"]):
        exact = group[group["work"].isin(["trace", "kept"]) & ~group["estimate"]]
        closed = exact["Work"].str.startswith("closed_form")
        quickest = exact[~closed].nsmallest(1, "seconds")
        for _, reference in pd.concat([exact[closed], quickest]).iterrows():
            estimates = group[group["estimate"]].groupby(["Work", "Mode", "Noise"], dropna=False)
            for (work, mode, noise), line in estimates:
                k, seconds = line["Probes"].astype(int).tolist(), line["seconds"].tolist()
                fit = fitting(reference["seconds"], k, seconds, line["rmse"].tolist())
                said = f"{k[-1]} or more" if fit.probes == k[-1] else fit.probes
                yield {
                    "Field": field,
                    "D": dim,
                    "Exact trace": reference["Work"],
                    "Work": work,
                    "Mode": mode,
                    "Noise": noise,
                    f"Seconds, {k[0]} probe / exact": seconds[0] / reference["seconds"],
                    "Probes that fit": said if fit.probes else f"fewer than {k[0]}",
                    ERROR: fit.error,
                    RECORDS: (*reference[RECORDS], *chain.from_iterable(line[RECORDS])),
                }
