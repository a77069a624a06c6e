"""Tables of the nfe study: evaluations as trained, their growth with D, totals of a density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import equal_fit, nfe
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.crossings import ALWAYS, NEVER, crossing
from benchmarks.analysis.equal_fit import SHARE, Fit, loosest_first
from benchmarks.analysis.inference import Estimate
from benchmarks.analysis.nfe import Total
from benchmarks.core.exhibit import RECORDS, Column, Table, cells
from benchmarks.core.metrics import METRICS

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
TOTALS = "What a density costs with the measured NFE"
TRAINING_NOTE = (
    "Evaluations of field and trace in one log_prob of a fixed batch at the training tolerance; "
    "FLOPs and seconds of log_prob by the exact trace."
)
GROWTH_NOTE = (
    "Slope of ln NFE against ln D with its 95 % interval, over the means of the seeds at each "
    "dimension: 0 where the number of evaluations does not depend on D. FLOPs: the slope of what "
    "one log_prob of a row takes after training, by the flow's own solver and trace."
)
FIT = (
    f"Each training is read at the first validation that has closed {SHARE:.0%} of the gap between "
    "a Gaussian and the truth or, where that is not known, the best likelihood of these trainings "
    "on the same split, which may be another flow's at another D. Evaluations of one log_prob of a "
    "fixed batch there, in float64, at atol = rtol, interpolated between the checks of a training. "
)
FIT_GROWTH_NOTE = (
    FIT + "Slope of ln NFE against ln D with its 95 % interval, over the means of the seeds at the "
    "dimensions where the share was reached; over all tolerances that of the mean of their ln NFE. "
    "The interval is by the scatter over D; it has no width where NFE are equal at every D."
)
FIT_NOTE = (
    FIT + "Means over the seeds that reached the share, and how many did. Share: of the gap at the "
    "end of the training."
)
MEANING = (
    "FLOPs of log_prob per row. Flows with an ODE are those of this study after training, each by "
    "its own solver and trace at the number of evaluations that it then takes. The others are "
    "those of the cost study with their L layers: the polynomial in D that their exact counts are "
    "of or, where D is below the sizes that it holds for and where there is none, an interpolation "
    "between the counts on logarithmic axes. "
    "What is computed once for a batch is shared by its rows. "
)
TOTALS_NOTE = (
    "In parentheses the evaluations, both a mean over seeds. N: rows of the call. H: the width; "
    "compare flows of equal H, or those whose H grows with D with each other."
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
    return [_training(rows), *_growth(rows), *_at_equal_fit(rows), *_totals(frame)]


def own(frame: pd.DataFrame) -> pd.DataFrame:
    """The study's records among those of others."""
    return frame if frame.empty else frame[frame["study"] == "nfe"]


def _training(rows: pd.DataFrame) -> Table:
    """A row for each case."""
    headers = {"dataset": "Data", "series": "Flow", "seed": "Seed", "updates": "Updates"}
    table = nfe.named(rows)[[*headers]]
    table[RECORDS] = [(key,) for key in rows["key"]]
    columns = {name: Column(header) for name, header in headers.items()}
    for metric, digits in DIGITS.items():
        if METRICS[metric].cpu and metric not in rows:  # of records before there were such
            continue
        table[metric] = cells(rows, rows.get(metric, pd.Series(float("nan"), rows.index)))
        columns[metric] = Column.of(metric, row=METRICS[metric].per == "row", digits=digits)
    title = "Evaluations before and after training"
    return Table("nfe-training", title, TRAINING_NOTE, table, columns=columns)


def _growth(rows: pd.DataFrame) -> list[Table]:
    """A row for each family: the slopes in ln D of ln NFE and of the logarithm of FLOPs."""
    known = [metric for metric in SLOPES if metric in rows]
    table_rows = []
    for name, group in nfe.families(rows).items():
        row: dict[str, Any] = {"series": name, "from": group["dim"].min(), "to": group["dim"].max()}
        row |= {"dims": group["dim"].nunique(), "seeds": group["seed"].nunique()}
        for metric in known:
            row |= _slope(metric, nfe.growth(group, metric))
        table_rows.append({**row, RECORDS: tuple(group["key"])})
    headers = {"series": "Flow, data", "from": "D from", "to": "D to", "dims": "Dimensions"}
    columns = {name: Column(header) for name, header in {**headers, "seeds": "Seeds"}.items()}
    for metric in known:
        title, interval = METRICS[metric].title, f"{metric}.interval"
        columns[metric] = Column(title, digits=".2f", interval=interval)
    title = "Evaluations against the dimension"
    frame = pd.DataFrame(table_rows)
    return [Table("nfe-growth", title, GROWTH_NOTE, frame, columns=columns)] if table_rows else []


def _at_equal_fit(rows: pd.DataFrame) -> list[Table]:
    """Slopes at equal fit, a row for each series; NFE of each series and dimension."""
    if not (fits := equal_fit.fits(rows)):
        return []
    slopes = [_fit_growth(fit) for fit in fits]
    values = [_fit_values(fit, own) for fit in fits for _, own in fit.rows.groupby("dim")]
    tolerances = loosest_first(t for fit in fits for t in fit.tolerances)
    at = {"mean": "over all tolerances", **{t: f"at {t}" for t in tolerances}}
    headers = {"series": "Flow, data", "reached": "Reached by", "dims": "Dimensions"}
    columns = {name: Column(header) for name, header in headers.items()}
    columns |= {t: Column(f"Slope {at[t]}", digits=".2f", interval=f"{t}.interval") for t in at}
    headers = {"series": "Flow, data", "dim": "D", "reached": "Reached by"}
    detail = {name: Column(header) for name, header in headers.items()}
    detail |= {"share": Column("Share", digits=".0%"), "update": Column("Updates", digits=".0f")}
    detail |= {t: Column(f"NFE {at[t]}", digits=".0f") for t in tolerances}
    title = "Evaluations at equal fit"
    slope_title = f"{title} against the dimension"
    return [
        Table("nfe-equal-fit-growth", slope_title, FIT_GROWTH_NOTE, pd.DataFrame(slopes), columns),
        Table("nfe-equal-fit", title, FIT_NOTE, pd.DataFrame(values), detail),
    ]


def _reached(rows: pd.DataFrame) -> str:
    """ "3 of 5": the trainings that closed the share of the gap."""
    return f"{np.isfinite(rows['update']).sum()} of {len(rows)}"


def _fit_growth(fit: Fit) -> dict[str, Any]:
    """A series, and its slope over all tolerances and at each."""
    there = fit.rows[np.isfinite(fit.rows["update"])]
    row = {"series": fit.name, "reached": _reached(fit.rows), "dims": there["dim"].nunique()}
    row |= _slope("mean", fit.growth())
    for tolerance in fit.tolerances:
        row |= _slope(tolerance, fit.growth(tolerance))
    return {**row, RECORDS: tuple(fit.rows["key"])}


def _slope(column: str, slope: Estimate | None) -> dict[str, Any]:
    """A slope and its interval, as cells of a row."""
    if slope is None:
        return {column: float("nan"), f"{column}.interval": None}
    return {column: slope.value, f"{column}.interval": slope.interval(LEVEL)}


def _fit_values(fit: Fit, own: pd.DataFrame) -> dict[str, Any]:
    """A series at one dimension: its share, updates and NFE, means over the seeds."""
    there = own[["update", *fit.tolerances]][np.isfinite(own["update"])]
    row = {"series": fit.name, "dim": own["dim"].iloc[0], "reached": _reached(own)}
    return {**row, "share": own["share"].mean(), **there.mean(), RECORDS: tuple(own["key"])}


def _totals(frame: pd.DataFrame) -> list[Table]:
    """Of records of both studies: the totals, and where one falls below another."""
    solved, direct = nfe.totals(frame)
    if not (solved and direct):
        return []
    rows = [_total(total) for total in (*solved, *direct)]
    dims = [f"dim.{dim}" for dim in nfe.dims(solved)]
    order = [*TOTAL_HEADERS, *(part for dim in dims for part in (dim, f"{dim}.nfe")), RECORDS]
    columns = {name: Column(header) for name, header in TOTAL_HEADERS.items()}
    for dim in dims:
        header = f"D = {dim.partition('.')[2]}"
        columns[dim] = Column(header, digits=".1e", mark=f"{dim}.nfe")
    note = MEANING + TOTALS_NOTE
    totals = pd.DataFrame(rows, columns=order)
    return [
        Table("nfe-totals", TOTALS, note, totals, columns=columns),
        _crossings(solved, direct),
    ]


def _total(total: Total) -> dict[str, Any]:
    """A series with its sizes, a range where D decides them, and its costs by D."""
    row: dict[str, Any] = {"flow": total.name, RECORDS: keys([total])}
    for name, column in (
        ("batch", "batch"),
        ("hidden", "option.hidden"),
        ("layers", "option.layers"),
    ):
        if column in total.records and (values := total.records[column].dropna()).size:
            ends = (values.min(), values.max())
            row[name] = " to ".join(dict.fromkeys(f"{end:g}" for end in ends))
    for dim, flops, evaluations in total.costs.itertuples():
        row[f"dim.{dim}"] = flops
        row[f"dim.{dim}.nfe"] = f"({evaluations:.0f})" if evaluations else ""
    return row


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
    for total in solved:
        columns[total.name] = Column(digits=".0f", prefix=f"{total.name}.from")
    title = "Where a flow with an ODE costs less"
    frame = pd.DataFrame(rows)
    return Table("nfe-totals-crossings", title, CROSSINGS_NOTE, frame, columns=columns)


def keys(*kinds: Sequence[Total]) -> tuple[str, ...]:
    """The records of these series."""
    every = (key for kind in kinds for total in kind for key in total.records["key"])
    return tuple(dict.fromkeys(every))
