"""The tables of the libraries study: times of each member, ratios to the first's, and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.inference import ratio_of_medians
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.metrics import METRICS, SCALES
from benchmarks.core.naming import name_runs
from benchmarks.studies.architectures import differences

CALLS = {call: METRICS[f"{call}_seconds"].name for call in ("log_prob", "step", "sample", "build")}
KNOWN = {  # metrics of a member, and how they are shown
    "parameters": ",.0f",
    "log_prob_error": ".1e",
    "log_prob_flops": ".4g",
    "log_prob_nfe": ".0f",
}
COMPILED = ("log_prob", "step", "sample")  # calls that a peer compiles
NOTE = (
    "Medians of one call on the whole batch, timed in the same shuffled rounds, with the "
    "interquartile range of the raw samples in brackets; the ratio is that of the median to the "
    "first member's, with a 95 % bootstrap interval: above 1 the first is faster. Compiling is in "
    "no other time, and in calls the number of calls that take as long. Error: the largest error "
    "of log_prob over the batch, relative to the same weights in float64, an ODE at a tight "
    "tolerance; a ratio is a fair comparison only if both errors are about the same. FLOPs of "
    "peers are not counted."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """A row for each group, dimension and member; and what tells the members apart."""
    if "setting.group" not in frame:  # records of pairs, before there were groups
        return []
    columns = {"group": Column("Group"), "dim": Column("D"), "member": Column("Member")}
    columns |= {name: Column.of(name, digits=digits) for name, digits in KNOWN.items()}
    for call, name in CALLS.items():
        half, scale = f"{call}.half", SCALES["s", "ms"]
        columns[call] = Column(name, "ms", scale, digits=".3g", interval=half, kind="time")
        interval = f"{call}.ratio.interval"
        header = f"{name}, ratio"
        columns[f"{call}.ratio"] = Column(header, digits=".3g", interval=interval, kind="time")
    for call in COMPILED:
        seconds = Column.of(f"{call}_compile_seconds", digits=".2g")
        columns[f"{call}_compile_seconds"] = seconds
        columns[f"{call}.compiling"] = Column(f"{seconds.label}, calls", digits=",.0f", kind="time")
    rows = comparisons(frame)
    known = [name for name in columns if name in rows and rows[name].notna().any()]
    beside = [part for name in known for part in columns[name].beside if part in rows]
    table = rows[[*known, *beside, RECORDS]]
    calls = Table("libraries", "One architecture by library", NOTE, table, columns)
    return [calls, *differences(frame)]


def comparisons(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each group, dimension and member, the reference of a group first.

    Columns: group, dim, member; of each call its median seconds under its name, their middle half
    (``log_prob.half``), and but for the reference their ratio to its (``log_prob.ratio``, with
    ``.interval``); metrics of `KNOWN`; records. A member that was not measured has its status in
    place of its seconds.
    """
    return pd.DataFrame(_rows(frame))


def _rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    frame = name_runs(frame, "setting.group")
    frame = frame.assign(order=pd.factorize(frame["setting.group"])[0])
    for (_, dim), group in frame.groupby(["order", "dim"]):
        first, *_ = members = group.sort_values("setting.place").to_dict("records")
        for member in members:
            row = {"group": member["setting.group"], "dim": dim, "member": member["setting.member"]}
            row |= {name: member.get(name, np.nan) for name in KNOWN}
            if isinstance(member.get("setting.by"), str):
                row["log_prob_flops"] = "not counted"
            for call in CALLS:
                row |= {f"{call}{part}": value for part, value in _times(member, call).items()}
                own, reference = _samples(member, call), _samples(first, call)
                if member is not first and own is not None and reference is not None:
                    value, *interval = ratio_of_medians(own, reference)
                    row |= {f"{call}.ratio": value, f"{call}.ratio.interval": tuple(interval)}
            row |= _compiling(member)
            yield row | {RECORDS: (member["key"],)}


def _compiling(record: Any) -> dict[str, float]:
    """Seconds of compiling each call, and how many median calls take as long."""
    row = {}
    for call in COMPILED:
        seconds, samples = f"{call}_compile_seconds", _samples(record, call)
        row[seconds] = record.get(seconds, np.nan)
        if samples is not None and isinstance(once := record.get(f"{seconds}.values"), list):
            own = np.median(record[f"{call}_seconds.values"])
            row[f"{call}.compiling"] = float(np.median(once) / own)
    return row


def _samples(record: Any, call: str) -> np.ndarray | None:
    """Raw seconds of a call over those of the reference workload; None if it was not timed.

    The reference is the same for all who were timed together.
    """
    values = record.get(f"{call}_seconds.values")
    if record["status"] != "done" or not isinstance(values, list | np.ndarray):
        return None
    return np.asarray(values) / float(np.median(record["reference_seconds.values"]))


def _times(record: Any, call: str) -> dict[str, Any]:
    if record["status"] != "done":
        return {"": record["status"], ".half": None}
    if pd.isna(record.get(f"{call}_seconds")):
        return {"": np.nan, ".half": None}
    low, middle, high = np.quantile(record[f"{call}_seconds.values"], [0.25, 0.5, 0.75])
    return {"": float(middle), ".half": (float(low), float(high))}
