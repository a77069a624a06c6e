"""Tables of the nfe study: evaluations as trained, their growth with D, totals of a density."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import nfe
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.inference import ORDERS, Trend
from benchmarks.analysis.nfe import FREE, SHARE, TOLERANCE, loosest_first
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, columns, with_interval
from benchmarks.core.metrics import METRICS
from benchmarks.studies.cost.tables import crossing_cells

READS = ("cost",)
CALL = ("row_flops", "per_1000_seconds", "per_1000_cpu_seconds")
MEASURED = ("nfe_start", "nfe_end", "parameters", *CALL, "train_seconds", "train_cpu_seconds")
FAMILY = {"series": "Flow, data"}
TOTALS = "What a density costs at the evaluations of trained fields"
TRAINING_NOTE = (
    "Evaluations of field and trace in one log_prob of a fixed batch at the training tolerance; "
    "FLOPs and seconds of log_prob by the exact trace."
)
FIT = (
    f"Each training is read at the first validation that has closed {SHARE:.0%} of the gap between "
    "a Gaussian and the truth or, where that is not known, the best likelihood on the same split. "
    "Evaluations of one log_prob of a fixed batch there, in float64, at atol = rtol, interpolated "
    "between the checks of a training. "
)
FIT_GROWTH_NOTE = (
    f"{FIT}Slope of ln NFE against ln D with its 95 % interval, over the means of the seeds at the "
    "dimensions where the share was reached. Of several series: the slope that they share, each "
    "with a level of its own; the interval is that of all orders of the dimensions, or of "
    f"{ORDERS:,}, each moved with all of its series. "
    f"{', '.join(FREE)}: fields of free form that are trained by likelihood."
)
FIT_NOTE = (
    f"{FIT}Means over the seeds that reached the share, and how many did. Share: of the gap at the "
    "end of the training."
)
TOTALS_NOTE = (
    "FLOPs of log_prob per row by exact counts at one width; what is computed once for a batch is "
    "shared by its rows. Flows with an ODE take, where data are named, the median of the "
    f"evaluations of its trained fields at equal fit and a tolerance of {TOLERANCE}, in brackets "
    "the least and the most over their dimensions; else those of one step of RK4. The same "
    "evaluations are taken at every D: where they grow, the cost is a lower bound."
)
CROSSINGS_NOTE = (
    "The D from which on the flow of the row takes fewer FLOPs per row than that of the column, at "
    "all larger D that were counted; interpolated between two of them on logarithmic axes. In "
    f'brackets: at the least and the most evaluations, ∞: not up to the largest D. "{TOTALS}" has '
    "the costs."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """Evaluations before and after training, at equal fit, and totals by the cost study."""
    rows = frame[frame["study"] == "nfe"]
    if rows.empty:
        return []
    return [_training(rows), *_at_equal_fit(rows), *_totals(frame)]


def _training(rows: pd.DataFrame) -> Table:
    metrics = [m for m in MEASURED if m in rows or not METRICS[m].cpu]  # old records have no CPU
    table = nfe.named(rows).assign(**{metric: cells(rows, metric) for metric in metrics})
    title = "Evaluations before and after training"
    layout = columns("dataset", "series", "seed", "updates", *metrics)
    return Table.of("nfe-training", title, TRAINING_NOTE, table, layout)


def _slope(name: str, slope: Trend | None) -> dict[str, Any]:
    """The cells of a slope; NaN where it is not known."""
    return with_interval(name, slope.value, *slope.interval(LEVEL)) if slope else {name: np.nan}


def _at_equal_fit(frame: pd.DataFrame) -> Iterator[Table]:
    """Slopes at equal fit, a row for each series; NFE of each series and dimension."""
    if not (fits := nfe.fits(frame)):
        return
    slopes, values = [], []
    for fit in (*nfe.pooled(fits), *fits):
        there = fit.rows[np.isfinite(fit.rows["update"])]
        row = {"series": fit.name, "reached": _reached(fit.rows), "dims": there["dim"].nunique()}
        row |= _slope("mean", fit.growth())
        for tolerance in fit.tolerances:
            row |= _slope(tolerance, fit.growth(tolerance))
        slopes.append({**row, RECORDS: tuple(fit.rows["key"])})
        for dim, group in fit.rows.groupby("dim") if fit.kind else ():
            means = group.loc[np.isfinite(group["update"]), ["update", *fit.tolerances]].mean()
            row = {"series": fit.name, "dim": dim, "reached": _reached(group)}
            row |= {"share": group["share"].mean(), **means, RECORDS: tuple(group["key"])}
            values.append(row)
    at = {t: f"at {t}" for t in loosest_first(t for fit in fits for t in fit.tolerances)}
    detail = columns(FAMILY, "dim", {"reached": "Reached by"})
    detail |= {"share": Column("Share", digits=".0%"), "update": Column("Updates", digits=".0f")}
    detail |= {t: Column(f"NFE {words}", digits=".0f") for t, words in at.items()}
    layout = columns(FAMILY, {"reached": "Reached by", "dims": "Dimensions"})
    at = {"mean": "over all tolerances"} | at
    layout |= {t: Column(f"Slope {words}", digits=".2f") for t, words in at.items()}
    title = "Evaluations at equal fit"
    slope_title = f"{title} against the dimension"
    yield Table.of("nfe-equal-fit-growth", slope_title, FIT_GROWTH_NOTE, slopes, layout)
    yield Table.of("nfe-equal-fit", title, FIT_NOTE, values, detail)


def _reached(rows: pd.DataFrame) -> str:
    """ "3 of 5": the trainings that closed the share of the gap."""
    return f"{np.isfinite(rows['update']).sum()} of {len(rows)}"


def _totals(frame: pd.DataFrame) -> Iterator[Table]:
    """FLOPs of each series at the median evaluations by D, and where those with an ODE are less."""
    solved, direct = nfe.totals(frame)
    if not solved:
        return
    costs, less = [], []
    for total in (*solved, *direct):
        row: dict[str, Any] = {"flow": total.name, "data": total.data or "–"}
        if any(total.evaluations):
            least, median, most = total.evaluations
            row["nfe"] = median
            row |= {"nfe.interval": (least, most)} if total.data else {}
            where = row.copy()
            for other in direct:
                least, median, most = total.crossings(other)
                where |= crossing_cells(other.name, median)
                where |= {f"{other.name}.interval": (least, most)} if least != most else {}
            keys = chain(total.keys, *(other.keys for other in direct))
            less.append(where | {RECORDS: tuple(dict.fromkeys(keys))})
        row |= {f"dim.{dim}": flops for dim, flops in total.flops[1].items()}
        costs.append(row | {RECORDS: total.keys})
    layout = columns("flow", {"data": "Data", "nfe": Column("Evaluations", digits=".0f")})
    by_dim = {f"dim.{dim}": Column(f"D = {dim}", digits=".1e") for dim in solved[0].once.index}
    title = "Where a flow with an ODE costs less"
    others = {other.name: Column(digits=".0f") for other in direct}
    yield Table.of("nfe-totals", TOTALS, TOTALS_NOTE, costs, layout | by_dim)
    yield Table.of("nfe-totals-crossings", title, CROSSINGS_NOTE, less, layout | others)
