"""Tables of the speed study: times of each call, and ours over the peers' at the same error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.inference import ratio_of_medians
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.metrics import METRICS, SCALES
from benchmarks.core.naming import name_runs
from benchmarks.evaluation.contest import CALLS, MODES
from benchmarks.studies.speed.study import MATMUL_FLOPS

FLOPS = {"log_prob": "log_prob_flops", "gradient": "step_flops"}  # counted of eager flows, by call
EQUAL = 2.0  # factor between two errors up to which they count as equal
FLOOR = 1e-5  # below which errors, nats or of a gradient, are those of rounding: equal
SUBJECT = ["flow", "dim", "batch", "option.hidden", "setting.busy"]
NOTE = (
    "Median of one call on the whole batch, timed in the same shuffled turns, with the "
    "interquartile range in brackets. Loss and backward is a training step without the optimiser. "
    "Peak: FLOPs of the eager flow's call over the time, as a share of those of a large matrix "
    "product beside it. Error: the largest of log_prob over the batch, and that of the gradient "
    "over its norm, relative to a float64 solution. Compiling is the first call less the second, "
    "and in no time. Busy: processes that kept a core each busy meanwhile."
)
RATIOS = (
    "Median time of ours over that of the other library's, with a 95 % bootstrap interval: below 1 "
    "ours is faster. Errors are those of log_prob (nats, the largest) and of gradients (over their "
    f"norm). They are equal within a factor of {EQUAL:g}, or where both are below {FLOOR:g}, which "
    "is rounding; otherwise the ratio compares two accuracies, and the table says which is better."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """Times of every competitor, and the ratios of ours to peers."""
    frame = named(frame)
    result = [_times(frame)]
    rows = ratios(frame)
    if len(rows):
        columns = {
            "flow": Column("Flow"),
            "dim": Column("D"),
            "busy": Column("Busy"),
            "call": Column("Call"),
            "ours": Column("Ours"),
            "peer": Column("Peer"),
            "ratio": Column("Ours / peer", digits=".3g", interval="ratio.interval", kind="time"),
            "error": Column("Error, ours", digits=".1e"),
            "error.peer": Column("Error, peer", digits=".1e"),
            "accuracy": Column("Accuracy"),
        }
        listing = rows.assign(call=rows["call"].map(_name))
        cells = [name for name in listing if name in {*columns, "ratio.interval", RECORDS}]
        result.append(Table("speed-ratios", "Ours over peers", RATIOS, listing[cells], columns))
    return result


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column "competitor": its label, or what it is, and its run among several."""
    names = frame.get("setting.label", pd.Series(None, frame.index, dtype=object))
    frame = frame.assign(competitor=names.fillna(frame["setting.by"]))
    return name_runs(frame, "competitor")


def shares(frame: pd.DataFrame, call: str) -> pd.Series:
    """Share of the measured peak that each row's call reaches; NaN where it is not known.

    Its FLOPs are those of the eager flow of the same subject: a peer does the same work.
    """
    nothing = pd.Series(float("nan"), frame.index)
    flops, seconds = frame.get(FLOPS.get(call, ""), nothing), frame.get(f"{call}_seconds", nothing)
    counted = flops.where(frame["setting.by"] == "eager")
    subjects = [frame[name] for name in _subject(frame)]
    counted = counted.groupby(subjects, dropna=False).transform("max")
    return counted / seconds / (MATMUL_FLOPS / frame.get("matmul_seconds", nothing))


def ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each subject, call, competitor of ours and peer that were timed together.

    One of ours that has a label, which says how it differs, is a peer.

    Columns: those of a subject, call, ours, peer, ratio with ratio.interval, error and error.peer
    (of the gradient where the call gives one, of log_prob otherwise), accuracy ("equal", or whose
    is better), records.
    """
    return pd.DataFrame(_ratios(frame[frame["status"] == "done"]))


def _ratios(done: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for _, group in done.groupby([*_subject(done), "block"], sort=False, dropna=False):
        rows = group.to_dict("records")
        own = [row["setting.by"] in MODES and pd.isna(row.get("setting.label")) for row in rows]
        ours = [row for row, mine in zip(rows, own, strict=True) if mine]
        others = [row for row, mine in zip(rows, own, strict=True) if not mine]
        for call in CALLS:
            for one in ours:
                for other in others:
                    mine, theirs = _samples(one, call), _samples(other, call)
                    if mine is None or theirs is None:
                        continue
                    value, *interval = ratio_of_medians(mine, theirs)
                    metric = f"{call}_error" if call != "sample" else "log_prob_error"
                    errors = one[metric], other[metric]
                    yield {
                        **{name.rpartition(".")[2]: one[name] for name in _subject(done)},
                        "call": call,
                        "ours": one["competitor"],
                        "peer": other["competitor"],
                        "ratio": value,
                        "ratio.interval": tuple(interval),
                        "error": errors[0],
                        "error.peer": errors[1],
                        "accuracy": _better(*errors),
                        RECORDS: (one["key"], other["key"]),
                    }


def _better(ours: float, peer: float) -> str:
    """Return "equal", or who has the smaller error."""
    if max(ours, peer) <= max(FLOOR, EQUAL * min(ours, peer)):
        return "equal"
    return "ours better" if ours < peer else "peer better"


def _times(frame: pd.DataFrame) -> Table:
    names = [*_subject(frame), "competitor"]
    rows = frame[names].rename(columns=lambda name: str(name).rpartition(".")[2])
    columns = {
        "flow": Column("Flow"),
        "dim": Column("D"),
        "hidden": Column("H"),
        "batch": Column("N"),
        "busy": Column("Busy"),
        "competitor": Column("By"),
    }
    for call in CALLS:
        name = f"{call}_seconds"
        if name not in frame:
            continue
        half, scale = f"{name}.half", SCALES["s", "ms"]
        rows[name] = frame[name].astype(object).where(frame["status"] == "done", frame["status"])
        halves = [_half(row, call) for row in frame.to_dict("records")]
        rows[half] = pd.Series(halves, frame.index, dtype=object)
        columns[name] = Column(_name(call), "ms", scale, digits=".3g", interval=half, kind="time")
        if call in FLOPS:
            rows[f"{call}_peak"] = shares(frame, call)
            header = f"Peak, {_name(call)}"
            columns[f"{call}_peak"] = Column(header, "%", 100.0, digits=".0f", kind="time")
    compiling = [f"{c}_compile_seconds" for c in CALLS if f"{c}_compile_seconds" in frame]
    digits = {"log_prob_error": ".1e", "gradient_error": ".1e", "adjoint_error": ".1e"}
    digits |= {"parameters": ",.0f", "log_prob_nfe": ".0f"} | dict.fromkeys(compiling, ".1f")
    for name in (n for n in digits if n in frame):
        rows[name] = frame[name]
        columns[name] = Column.of(name, digits=digits[name])
    rows[RECORDS] = [(key,) for key in frame["key"]]
    return Table("speed", "Times by competitor", NOTE, rows, columns)


def _subject(frame: pd.DataFrame) -> list[str]:
    """Columns that tell subjects apart; "setting.busy" only where a machine was busy."""
    idle = {"setting.busy"} if not frame.get("setting.busy", pd.Series([0])).any() else set()
    return [name for name in SUBJECT if name in frame and name not in idle]


def _name(call: str) -> str:
    return METRICS[f"{call}_seconds"].name


def _samples(row: Mapping[Any, Any], call: str) -> np.ndarray | None:
    """The raw seconds of a call; None if it was not timed."""
    values = row.get(f"{call}_seconds.values")
    return np.asarray(values) if isinstance(values, list | np.ndarray) else None


def _half(row: Mapping[Any, Any], call: str) -> tuple[float, float] | None:
    samples = _samples(row, call)
    if samples is None or row["status"] != "done" or pd.isna(row[f"{call}_seconds"]):
        return None
    low, high = np.quantile(samples, [0.25, 0.75])
    return float(low), float(high)
