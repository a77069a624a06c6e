"""The table of the libraries study: ratios of times, and whether they are at the same accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.stats import ratio_of_medians
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.metrics import METRICS, SCALES
from benchmarks.core.series import name_runs
from benchmarks.studies.libraries.study import SIDES

CALLS = {call: METRICS[f"{call}_seconds"].name for call in ("log_prob", "step", "sample", "build")}
MEASURED = {  # of a side: the metric by call, header and digits
    "parameters": ("parameters", "Parameters", ",.0f"),
    "flops": ("{call}_flops", "FLOPs", ".4g"),
    "nfe": ("{call}_nfe", "NFE", ".0f"),
    "compile": ("{call}_compile_seconds", "Compiling (s)", ".2g"),
    "error": ("log_prob_error", f"Error ({METRICS['log_prob_error'].unit})", ".1e"),
}
NOTE = (
    "Medians of one call on the whole batch, timed in the same shuffled rounds, with the "
    "interquartile range of the raw samples in brackets; the ratio with a 95 % bootstrap "
    "interval, below 1 if ours is faster. Both flows have the same depth, layers and, within 5 "
    "%, number of parameters. Error: the largest error of log_prob over the batch, relative to a "
    "float64 solution at a tight tolerance; the ratio is a fair comparison only if both errors "
    "are about the same."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """A row for each pair, dimension and call: times, their ratio, size, FLOPs and errors."""
    columns = {"pair": Column("Pair"), "dim": Column("D"), "call": Column("Call")}
    for side in SIDES:
        name = f"seconds.{side}"
        half, scale = f"{name}.half", SCALES["s", "ms"]
        columns[name] = Column(side.title(), "ms", scale, digits=".3g", interval=half, kind="time")
    columns["ratio"] = Column("Ours / theirs", digits=".3g", interval="ratio.interval", kind="time")
    for what, (_, header, digits) in MEASURED.items():
        for side in SIDES:
            columns[f"{what}.{side}"] = Column(f"{header}, {side}", digits=digits)
    rows = comparisons(frame)
    known = [name for name in columns if name in rows and rows[name].notna().any()]
    beside = [part for name in known for part in columns[name].beside if part in rows]
    table = rows[[*known, *beside, RECORDS]].assign(call=rows["call"].map(CALLS))
    return [Table("libraries", "Ours and theirs", NOTE, table, columns=columns)]


def comparisons(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair, dimension and call.

    Columns: pair, dim, call; seconds (the median, and its middle half as ``seconds.ours.half``),
    parameters, flops, nfe, compile and error of either side; ratio with ratio.interval; records. A
    side that was not measured has its status in place of its seconds.
    """
    return pd.DataFrame(_rows(frame))


def _rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    frame = name_runs(frame, "setting.pair")
    frame = frame.assign(place=pd.factorize(frame["setting.pair"])[0])
    for (_, dim), group in frame.groupby(["place", "dim"]):
        sides = {row["setting.side"]: row for _, row in group.iterrows()}
        for call in CALLS:
            row: dict[str, Any] = {"pair": group["setting.pair"].iloc[0], "dim": dim, "call": call}
            row[RECORDS] = tuple(group["key"])
            for side, record in sides.items():
                row |= {f"seconds.{side}{part}": v for part, v in _times(record, call).items()}
                foreign = isinstance(record.get("setting.by"), str)
                for what, (metric, _, _) in MEASURED.items():
                    unknown = "not counted" if foreign and what == "flops" else float("nan")
                    value = record.get(metric.format(call=call), unknown)
                    row[f"{what}.{side}"] = unknown if pd.isna(value) else value
            if all(side in sides and _samples(sides[side], call) is not None for side in SIDES):
                row |= _ratio(sides["ours"], sides["theirs"], call)
            yield row


def _samples(record: pd.Series, call: str) -> np.ndarray | None:
    """The raw seconds of a call; None if it was not timed."""
    values = record.get(f"{call}_seconds.values")
    done = record["status"] == "done" and isinstance(values, list | np.ndarray)
    return np.asarray(values) if done else None


def _times(record: pd.Series, call: str) -> dict[str, Any]:
    if record["status"] != "done":
        return {"": record["status"], ".half": None}
    samples = _samples(record, call)
    if samples is None:
        return {"": float("nan"), ".half": None}
    low, high = np.quantile(samples, [0.25, 0.75])
    return {"": float(np.median(samples)), ".half": (float(low), float(high))}


def _ratio(ours: pd.Series, theirs: pd.Series, call: str) -> dict[str, Any]:
    """Relative to the reference workload of each, which is one where they were timed together."""
    samples = [
        np.asarray(side[f"{call}_seconds.values"]) / side["reference_seconds"]
        for side in (ours, theirs)
    ]
    value, low, high = ratio_of_medians(*samples)
    return {"ratio": value, "ratio.interval": (low, high)}
