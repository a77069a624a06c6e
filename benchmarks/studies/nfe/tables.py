"""Tables of the nfe study: evaluations as trained, their growth with D, totals of a density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import nfe
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.growth import crossing
from benchmarks.analysis.inference import Estimate
from benchmarks.analysis.nfe import SHARE, Total, loosest_first
from benchmarks.core.exhibit import RECORDS, Column, Table, cells, columns, with_interval
from benchmarks.core.metrics import METRICS
from benchmarks.studies.cost.tables import crossing_cells

READS = ("cost",)
CALL = ("row_flops", "per_1000_seconds", "per_1000_cpu_seconds")
MEASURED = ("nfe_start", "nfe_end", "parameters", *CALL, "train_seconds", "train_cpu_seconds")
SLOPES = ("nfe_start", "nfe_end", "solve_flops")
SIZES = {"batch": "batch", "hidden": "option.hidden", "layers": "option.layers"}
FAMILY = {"series": "Flow, data"}
TOTALS = "What a density costs with the measured NFE"
TRAINING_NOTE = (
    "Evaluations of field and trace in one log_prob of a fixed batch at the training tolerance; "
    "FLOPs and seconds of log_prob by the exact trace."
)
GROWTH_NOTE = (
    "Slope of ln NFE against ln D with its 95 % interval, over the means of the seeds at each "
    "dimension. FLOPs: that of one log_prob of a row after training, by the flow's own solver and "
    "trace."
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
    "with an ODE are those of this study after training, each by its own solver and trace; the "
    "others those of the cost study, by the polynomial in D of their exact counts, or else by "
    "interpolation."
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
    metrics = [m for m in MEASURED if m in rows or not METRICS[m].cpu]  # old records have no CPU
    table = nfe.named(rows).assign(**{metric: cells(rows, metric) for metric in metrics})
    table[RECORDS] = [(key,) for key in rows["key"]]
    title, layout = (
        "Evaluations before and after training",
        ("dataset", "series", "seed", "updates"),
    )
    return Table.of("nfe-training", title, TRAINING_NOTE, table, columns(*layout, *metrics))


def _growth(frame: pd.DataFrame) -> list[Table]:
    """A row for each family: the slopes in ln D of ln NFE and of the logarithm of FLOPs."""
    layout = columns(FAMILY, {"from": "D from", "to": "D to", "dims": "Dimensions"}, "seeds")
    layout |= {metric: Column(METRICS[metric].title, digits=".2f") for metric in SLOPES}
    rows = []
    for name, group in nfe.families(frame).items():
        row: dict[str, Any] = {"series": name, "from": group["dim"].min(), "to": group["dim"].max()}
        row |= {"dims": group["dim"].nunique(), "seeds": group["seed"].nunique()}
        for metric in [metric for metric in SLOPES if metric in group]:
            row |= _slope(metric, nfe.growth(group, metric))
        rows.append({**row, RECORDS: tuple(group["key"])})
    title = "Evaluations against the dimension"
    return [Table.of("nfe-growth", title, GROWTH_NOTE, rows, layout)] if rows else []


def _slope(name: str, slope: Estimate | None) -> dict[str, Any]:
    """The cells of a slope; NaN where it is not known."""
    return with_interval(name, slope.value, *slope.interval(LEVEL)) if slope else {name: np.nan}


def _at_equal_fit(frame: pd.DataFrame) -> list[Table]:
    """Slopes at equal fit, a row for each series; NFE of each series and dimension."""
    if not (fits := nfe.fits(frame)):
        return []
    slopes, values = [], []
    for fit in fits:
        there = fit.rows[np.isfinite(fit.rows["update"])]
        row = {"series": fit.name, "reached": _reached(fit.rows), "dims": there["dim"].nunique()}
        row |= _slope("mean", fit.growth())
        for tolerance in fit.tolerances:
            row |= _slope(tolerance, fit.growth(tolerance))
        slopes.append({**row, RECORDS: tuple(fit.rows["key"])})
        for dim, group in fit.rows.groupby("dim"):
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
    return [
        Table.of("nfe-equal-fit-growth", slope_title, FIT_GROWTH_NOTE, slopes, layout),
        Table.of("nfe-equal-fit", title, FIT_NOTE, values, detail),
    ]


def _reached(rows: pd.DataFrame) -> str:
    """ "3 of 5": the trainings that closed the share of the gap."""
    return f"{np.isfinite(rows['update']).sum()} of {len(rows)}"


def _totals(frame: pd.DataFrame) -> list[Table]:
    """A row for each series with its sizes, a range where D decides them, and its costs by D."""
    solved, direct = nfe.totals(frame)
    if not solved or not direct:
        return []
    rows: list[dict[str, Any]] = []
    for total in (*solved, *direct):
        row: dict[str, Any] = {"flow": total.name, RECORDS: keys([total])}
        for name, column in SIZES.items():
            if column in total.records and (values := total.records[column].dropna()).size:
                ends = (f"{end:g}" for end in (values.min(), values.max()))
                row[name] = " to ".join(dict.fromkeys(ends))
        for dim, flops, evaluations in total.costs.itertuples():
            row[f"dim.{dim}"] = flops
            row[f"dim.{dim}.mark"] = f"({evaluations:.0f})" if evaluations else ""
        rows.append(row)
    layout = columns("flow", "batch", "hidden", {"layers": "L"})
    layout |= {f"dim.{dim}": Column(f"D = {dim}", digits=".1e") for dim in nfe.dims(solved)}
    note = f"{TOTALS_NOTE} In parentheses the evaluations. N: rows of the call; H: the width."
    table = Table.of("nfe-totals", TOTALS, note, rows, layout)
    return [table, _crossings(solved, direct)]


def _crossings(solved: Sequence[Total], direct: Sequence[Total]) -> Table:
    """A row for each flow without an ODE, a column for each with one."""
    rows = []
    for plain in direct:
        row: dict[str, Any] = {"flow": plain.name, RECORDS: keys([plain], solved)}
        for total in solved:
            row |= crossing_cells(total.name, crossing(nfe.gap(total, plain)))
        rows.append(row)
    layout = columns("flow") | {total.name: Column(digits=".0f") for total in solved}
    title = "Where a flow with an ODE costs less"
    return Table.of("nfe-totals-crossings", title, CROSSINGS_NOTE, rows, layout)


def keys(*kinds: Sequence[Total]) -> tuple[str, ...]:
    """The records of these series."""
    every = (key for kind in kinds for total in kind for key in total.records["key"])
    return tuple(dict.fromkeys(every))
