"""Tables of the nfe study: evaluations as trained, their growth with D, totals of a density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import nfe
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.growth import ALWAYS, NEVER, crossing
from benchmarks.analysis.inference import Estimate
from benchmarks.analysis.nfe import SHARE, Fit, Total, loosest_first
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, with_parts
from benchmarks.core.metrics import METRICS

READS = ("cost",)
DIGITS = {  # of the metrics of a training
    "nfe_start": ".0f",
    "nfe_end": ".0f",
    "parameters": ",.0f",
    "row_flops": ".3g",
    "per_1000_seconds": ".3g",
    "per_1000_cpu_seconds": ".3g",
    "train_seconds": ".3g",
    "train_cpu_seconds": ".3g",
}
SLOPES = ("nfe_start", "nfe_end", "solve_flops")
TOTAL_HEADERS = {"flow": "Flow", "batch": "N", "hidden": "H", "layers": "L"}
SIZES = {"batch": "batch", "hidden": "option.hidden", "layers": "option.layers"}
TOTALS = "What a density costs with the measured NFE"
TRAINING_NOTE = (
    "Evaluations of field and trace in one log_prob of a fixed batch at the training tolerance; "
    "FLOPs and seconds of log_prob by the exact trace."
)
GROWTH_NOTE = (
    "Slope of ln NFE against ln D with its 95 % interval, over the means of the seeds at each "
    "dimension. FLOPs: the slope of what one log_prob of a row takes after training, by the flow's "
    "own solver and trace."
)
FIT = (
    f"Each training is read at the first validation that has closed {SHARE:.0%} of the gap between "
    "a Gaussian and the truth or, where that is not known, the best likelihood on the same split. "
    "Evaluations of one log_prob of a fixed batch there, in float64, at atol = rtol, interpolated "
    "between the checks of a training. "
)
FIT_GROWTH_NOTE = (
    f"{FIT}Slope of ln NFE against ln D with its 95 % interval, over the means of the seeds at the "
    "dimensions where the share was reached."
)
FIT_NOTE = (
    f"{FIT}Means over the seeds that reached the share, and how many did. Share: of the gap at the "
    "end of the training."
)
TOTALS_NOTE = (
    "FLOPs of log_prob per row; what is computed once for a batch is shared by its rows. Flows "
    "with an ODE are those of this study after training, each by its own solver and trace. The "
    "others are those of the cost study: the polynomial in D of their exact counts, or an "
    "interpolation between the counts where there is none."
)
CROSSINGS_NOTE = (
    "The D from which on the flow with an ODE (column) takes fewer FLOPs per row than the one "
    "without (row), at all larger D that were measured; interpolated between two of them on "
    f'logarithmic axes. Both as in "{TOTALS}".'
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """Evaluations before and after training, their growth, and totals by the cost study."""
    rows = own(frame)
    if rows.empty:
        return []
    solved, direct = nfe.totals(frame)
    totals = [_totals(solved, direct), _crossings(solved, direct)] if solved and direct else []
    return [_training(rows), *_growth(nfe.families(rows)), *_at_equal_fit(nfe.fits(rows)), *totals]


def own(frame: pd.DataFrame) -> pd.DataFrame:
    """The study's records among those of others."""
    return frame if frame.empty else frame[frame["study"] == "nfe"]


def _columns(headers: Mapping[str, str], digits: str = "") -> dict[str, Column]:
    return {name: Column(header, digits=digits) for name, header in headers.items()}


def _training(rows: pd.DataFrame) -> Table:
    """A row for each case."""
    headers = {"dataset": "Data", "series": "Flow", "seed": "Seed", "updates": "Updates"}
    table = nfe.named(rows)[[*headers]].copy()
    table[RECORDS] = [(key,) for key in rows["key"]]
    columns = _columns(headers)
    for metric, digits in DIGITS.items():
        if metric in rows or not METRICS[metric].cpu:  # old records are without CPU seconds
            table[metric] = cells(rows, metric)
            columns[metric] = Column.of(metric, row=METRICS[metric].per == "row", digits=digits)
    title = "Evaluations before and after training"
    return Table("nfe-training", title, TRAINING_NOTE, table, columns)


def _growth(families: Mapping[str, pd.DataFrame]) -> list[Table]:
    """A row for each family: the slopes in ln D of ln NFE and of the logarithm of FLOPs."""
    headers = {"series": "Flow, data", "from": "D from", "to": "D to", "dims": "Dimensions"}
    columns = _columns({**headers, "seeds": "Seeds"})
    rows = []
    for name, group in families.items():
        row: dict[str, Any] = {"series": name, "from": group["dim"].min(), "to": group["dim"].max()}
        row |= {"dims": group["dim"].nunique(), "seeds": group["seed"].nunique()}
        for metric in [metric for metric in SLOPES if metric in group]:
            row |= _slope(metric, nfe.growth(group, metric))
            title, interval = METRICS[metric].title, f"{metric}.interval"
            columns[metric] = Column(title, digits=".2f", interval=interval)
        rows.append({**row, RECORDS: tuple(group["key"])})
    title = "Evaluations against the dimension"
    return [Table("nfe-growth", title, GROWTH_NOTE, pd.DataFrame(rows), columns)] if rows else []


def _slope(column: str, slope: Estimate | None) -> dict[str, Any]:
    """A slope and its interval, as cells of a row."""
    if slope is None:
        return {column: float("nan"), f"{column}.interval": None}
    return {column: slope.value, f"{column}.interval": slope.interval(LEVEL)}


def _at_equal_fit(fits: Sequence[Fit]) -> list[Table]:
    """Slopes at equal fit, a row for each series; NFE of each series and dimension."""
    if not fits:
        return []
    slopes, values = [], []
    for fit in fits:
        there = fit.rows[np.isfinite(fit.rows["update"])]
        row = {"series": fit.name, "reached": _reached(fit.rows), "dims": there["dim"].nunique()}
        for tolerance in ("mean", *fit.tolerances):
            row |= _slope(tolerance, fit.growth(*([tolerance] if tolerance != "mean" else [])))
        slopes.append({**row, RECORDS: tuple(fit.rows["key"])})
        for dim, group in fit.rows.groupby("dim"):
            means = group.loc[np.isfinite(group["update"]), ["update", *fit.tolerances]].mean()
            row = {"series": fit.name, "dim": dim, "reached": _reached(group)}
            row |= {"share": group["share"].mean(), **means, RECORDS: tuple(group["key"])}
            values.append(row)
    tolerances = loosest_first(t for fit in fits for t in fit.tolerances)
    at = {"mean": "over all tolerances", **{t: f"at {t}" for t in tolerances}}
    columns = _columns({"series": "Flow, data", "reached": "Reached by", "dims": "Dimensions"})
    columns |= {t: Column(f"Slope {at[t]}", digits=".2f", interval=f"{t}.interval") for t in at}
    detail = _columns({"series": "Flow, data", "dim": "D", "reached": "Reached by"})
    detail |= {"share": Column("Share", digits=".0%"), "update": Column("Updates", digits=".0f")}
    detail |= _columns({t: f"NFE {at[t]}" for t in tolerances}, ".0f")
    title = "Evaluations at equal fit"
    slope_title = f"{title} against the dimension"
    return [
        Table("nfe-equal-fit-growth", slope_title, FIT_GROWTH_NOTE, pd.DataFrame(slopes), columns),
        Table("nfe-equal-fit", title, FIT_NOTE, pd.DataFrame(values), detail),
    ]


def _reached(rows: pd.DataFrame) -> str:
    """ "3 of 5": the trainings that closed the share of the gap."""
    return f"{np.isfinite(rows['update']).sum()} of {len(rows)}"


def _totals(solved: Sequence[Total], direct: Sequence[Total]) -> Table:
    """A row for each series with its sizes, a range where D decides them, and its costs by D."""
    rows: list[dict[str, Any]] = []
    for total in (*solved, *direct):
        row: dict[str, Any] = {"flow": total.name, RECORDS: keys([total])}
        for name, column in SIZES.items():
            if column in total.records and (values := total.records[column].dropna()).size:
                ends = (f"{end:g}" for end in (values.min(), values.max()))
                row[name] = " to ".join(dict.fromkeys(ends))
        for dim, flops, evaluations in total.costs.itertuples():
            row[f"dim.{dim}"] = flops
            row[f"dim.{dim}.nfe"] = f"({evaluations:.0f})" if evaluations else ""
        rows.append(row)
    columns = _columns(TOTAL_HEADERS)
    for dim in nfe.dims(solved):
        columns[f"dim.{dim}"] = Column(f"D = {dim}", digits=".1e", mark=f"dim.{dim}.nfe")
    frame = pd.DataFrame(rows, columns=[*with_parts(columns), RECORDS])
    note = f"{TOTALS_NOTE} In parentheses the evaluations. N: rows of the call; H: the width."
    return Table("nfe-totals", TOTALS, note, frame, columns)


def _crossings(solved: Sequence[Total], direct: Sequence[Total]) -> Table:
    """A row for each flow without an ODE, a column for each with one."""
    rows = []
    for plain in direct:
        row: dict[str, Any] = {"flow": plain.name}
        for total in solved:
            dim = crossing(nfe.gap(total, plain))
            row[total.name] = {ALWAYS: "all", NEVER: "none in range"}.get(dim, dim)
            row[f"{total.name}.from"] = "D ≥ " if ALWAYS < dim < NEVER else ""
        rows.append({**row, RECORDS: keys([plain], solved)})
    columns = {"flow": Column("Flow")}
    columns |= {t.name: Column(digits=".0f", prefix=f"{t.name}.from") for t in solved}
    title = "Where a flow with an ODE costs less"
    return Table("nfe-totals-crossings", title, CROSSINGS_NOTE, pd.DataFrame(rows), columns)


def keys(*kinds: Sequence[Total]) -> tuple[str, ...]:
    """The records of these series."""
    every = (key for kind in kinds for total in kind for key in total.records["key"])
    return tuple(dict.fromkeys(every))
