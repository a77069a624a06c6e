"""Which times may be quoted, and which may stand in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.formats import plain
from benchmarks.core.metrics import METRICS
from benchmarks.core.study import registry

NOISY = 0.1  # spread of the reference workload's times above which none of its block is trusted
BUSY = 0.1  # busy cores of other processes from which on the machine was shared
REFERENCE = "reference_seconds"
UNKNOWN = "unknown machine"
SCATTERED = "the reference workload's times scattered"
CPU = tuple(name for name, metric in METRICS.items() if metric.cpu)
TIMES = tuple(name for name, metric in METRICS.items() if metric.kind == "time")
COMPARED = tuple(name for name in TIMES if METRICS[name].better != "neither")


def cautions(frame: pd.DataFrame) -> pd.Series:
    """Why the times of each row are not to be quoted; "" where they are.

    The machine was shared, or that is not known; or the reference workload's times scattered, or
    nothing timed it beside the row's block.
    """
    missing = pd.Series(None, frame.index, dtype=object)
    scatter = frame.get(f"{REFERENCE}.values", missing).map(_spread).astype(float)
    block = frame.get("block", missing)
    scatter = scatter.groupby(block.fillna(frame["key"])).transform("max")
    pairs = zip(frame.get("shared", missing), scatter, strict=True)
    return pd.Series([_caution(shared, spread) for shared, spread in pairs], frame.index, dtype=str)


def quotable(frame: pd.DataFrame, cautions: Mapping[str, str]) -> pd.DataFrame:
    """A copy of the frame without the times that are not to be quoted, by ``cautions`` of keys.

    CPU seconds of a process stay: what ran beside it does not count.
    Of `SCATTERED` times that were measured in the same rounds the raw values stay: what slows one
    slows all, so that ratios of their medians may be quoted, with their intervals.
    """
    why = frame["key"].map(cautions)
    together = [name for name in frame["study"].unique() if _interleaved(name)]
    ratios = (why == SCATTERED) & frame["study"].isin(together)
    doubtful = [name for name in time_columns(frame) if name.removesuffix(".values") not in CPU]
    raw = {name: name.endswith(".values") for name in doubtful}
    return frame.assign(
        **{name: frame[name].mask(why.notna() & ~(ratios & kept)) for name, kept in raw.items()}
    )


def spread(samples: Sequence[float]) -> float:
    """The interquartile range of samples over their median."""
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def place(machine: Mapping[str, Any], versions: Mapping[str, str], device: str = "cpu") -> str:
    """What has to be equal for two times to be comparable: machine class and minor torch.

    A class is a processor with its instructions, a number of cores and a system.
    """
    parts = [processor(machine), machine.get("cores"), machine.get("system")]
    parts += [machine.get("gpu")] if device.startswith("cuda") else []
    named = "/".join(str(part) for part in parts if part) if processor(machine) else UNKNOWN
    return f"{named}, torch {minor(versions)}"


def processor(machine: Mapping[str, Any]) -> str:
    """ "AMD EPYC (AVX2)": the processor and the instructions that torch uses; "" if not known."""
    cpu, instructions = (plain(machine.get(name) or "") for name in ("cpu", "instructions"))
    return f"{cpu} ({instructions})" if cpu and instructions else cpu


def minor(versions: Mapping[str, str]) -> str:
    """The minor version of torch among a record's versions, as "2.13"."""
    return ".".join(versions.get("torch", "unknown").split(".")[:2])


def places(frame: pd.DataFrame) -> pd.Series:
    """The `place` of each row that was timed; None of the others."""
    timed = frame[[name for name in COMPARED if name in frame]].notna().any(axis=1)
    rows = zip(frame["machine"], frame["versions"], frame["device"], strict=True)
    named = pd.Series([place(*row) for row in rows], frame.index, dtype=object)
    return named.where(timed, None)


def time_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of a frame that hold times, medians and raw values."""
    return [n for metric in TIMES for n in (metric, f"{metric}.values") if n in frame]


def of_one_place(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The frame with the times of one place alone, and what to note of it; "" where all are.

    It is the place of most records. Times of others become missing, and so do the seconds of their
    learning curves.
    """
    if frame.empty:
        return frame, ""
    where = places(frame)
    counts = where.value_counts()
    if len(counts) < 2:
        return frame, ""
    others = where.notna() & (where != counts.index[0])
    frame = frame.copy()
    for name in time_columns(frame):
        frame[name] = frame[name].mask(others)
    if "array_hashes" in frame:
        frame["array_hashes"] = frame["array_hashes"].mask(
            others, frame["array_hashes"].map(_untimed)
        )
        frame["arrays"] = frame["arrays"].mask(others & ~frame["array_hashes"].map(bool), None)
    names = "; ".join(f"{count} of {name}" for name, count in counts.iloc[1:].items())
    return frame, f"times are those measured on {counts.index[0]}; others are left out: {names}"


def _interleaved(study: str) -> bool:
    """Whether a study times all of a block in the same rounds; not so one that is not there."""
    return study in registry and bool(registry[study].interleaved)


def _untimed(hashes: Mapping[str, str]) -> dict[str, str]:
    """The arrays of a record that have no seconds, with their hashes."""
    return {name: value for name, value in hashes.items() if not name.endswith("seconds")}


def _spread(samples: Any) -> float:
    several = isinstance(samples, list | tuple) and len(samples) > 1
    return spread(samples) if several else float("nan")


def _caution(shared: Any, scatter: float) -> str:
    if not isinstance(shared, Mapping):
        return "what else ran on the machine is not known"
    busy = sum(shared.values())
    if not busy < BUSY:
        return "other work ran on the machine"
    if np.isnan(scatter):
        return "no reference workload was timed beside it"
    if scatter > NOISY:
        return SCATTERED
    return ""
