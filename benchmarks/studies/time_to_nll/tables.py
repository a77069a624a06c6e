"""Table of the time to a likelihood: what each flow's training takes to some levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import levels
from benchmarks.analysis.levels import Curve, Levels
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.frame import arrays_by_case
from benchmarks.core.naming import series

AXES = {  # column: array of a record
    "seconds": "validation_seconds",
    "updates": "validated",
    "flops": "validation_flops",
}
COLUMNS = {
    "level": Column("To"),
    "nll": Column("NLL", "nats", digits=".3f"),
    "flow": Column("Flow"),
    "seeds": Column("Seeds"),
    "seeds_there": Column("Seeds that reach it"),
    "seconds": Column("Median", "s", digits=".3g", interval="seconds_range"),
    "updates": Column("Updates (median)", digits=",.0f"),
    "flops": Column("Median", "FLOP", digits=".3g"),
    "reference_workloads": Column("Reference workloads", digits=",.0f"),
}
NOTE = (
    "Cost until the validation NLL first reaches a level. Levels are shares of the way from the "
    "fitted Gaussian (0%) to the best flow (100%), which has the lowest NLL of its median seed, "
    "and the level that every seed of every flow reaches. Medians over seeds, with the range in "
    "brackets; ∞ if a seed does not reach the level. Validation takes place every few updates, "
    "and its seconds are not counted. Seconds in units of the reference workload, which is timed "
    "beside each training, can be compared between machines."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """A table for each data set: seconds, updates and FLOPs of each flow to each level."""
    groups = frame.groupby("dataset", sort=False)
    return [_table(str(name), crossings(group)) for name, group in groups]


def with_curves(frame: pd.DataFrame) -> pd.DataFrame:
    """The done cases that have a learning curve."""
    return frame[(frame["status"] == "done") & frame["arrays"].notna()]


def levels_of(group: pd.DataFrame, curves: dict[str, Curve]) -> Levels:
    """Levels of one data set, by the done cases of its series; ``curves`` by key."""
    best = [[levels.best(curves[k]) for k in own["key"]] for _, own in group.groupby("series")]
    return levels.between(float(group["gaussian_ll"].median()), best)


def crossings(group: pd.DataFrame) -> pd.DataFrame:
    """Costs of each flow to each level on one data set, by level, the quickest flow first.

    ``share`` is that of the level, NaN for the one that all reach; ``nll`` is its value, nats;
    ``seconds``, ``updates`` and ``flops`` are medians over seeds, infinite if not reached;
    ``train_seconds`` is the longest training. All are NaN for a flow without a done case.
    """
    group = group.assign(series=series(group))
    done = with_curves(group)
    curves: dict[str, Curve] = dict(zip(done["key"], arrays_by_case(done), strict=True))
    steps = [(np.nan, np.nan)]
    if len(done):
        shares, common = levels_of(done, curves)
        steps = [*shares.items(), (np.nan, common)]
    parts = []
    for share, level in steps:
        rows = [
            {"share": share, "nll": -level, "flow": flow, **_costs(seeds, curves, level)}
            for flow, seeds in group.groupby("series", sort=False)
        ]
        parts.append(pd.DataFrame(rows).sort_values("seconds", kind="stable"))
    return pd.concat(parts, ignore_index=True)


def _costs(seeds: pd.DataFrame, curves: dict[str, Curve], level: float) -> dict[str, Any]:
    """Costs of the seeds of a flow to a level, nats."""
    done = seeds[seeds["key"].isin(curves)]
    row: dict[str, Any] = {"status": seeds["status"].iloc[0], RECORDS: tuple(seeds["key"])}
    row |= {"seeds": len(done), "seeds_there": 0, "seconds": np.nan}
    if done.empty:
        return row
    costs = {
        name: np.array([levels.cost_at(curves[key], axis, level) for key in done["key"]])
        for name, axis in AXES.items()
    }
    seconds = costs["seconds"]
    unknown = pd.Series(np.nan, done.index)
    reference = done.get("reference_seconds", unknown)
    workloads = seconds / reference.to_numpy()
    return row | {
        "status": "done",
        "seeds_there": int(np.isfinite(seconds).sum()),
        **{name: float(np.median(values)) for name, values in costs.items()},
        "seconds_range": (float(seconds.min()), float(seconds.max())),
        "reference_workloads": float(np.median(workloads)),
        "train_seconds": float(done.get("train_seconds", unknown).max()),
    }


def _table(name: str, rows: pd.DataFrame) -> Table:
    frame = rows.reindex(columns=[*COLUMNS, "seconds_range", RECORDS])
    common = "all reach" if rows["nll"].notna().any() else ""
    frame["level"] = [common if np.isnan(share) else f"{share:.0%}" for share in rows["share"]]
    frame["seconds"] = [_seconds(row) for _, row in rows.iterrows()]
    medians = ["updates", "flops", "reference_workloads", "seconds_range"]
    frame[medians] = frame[medians].where(np.isfinite(rows["seconds"]))
    title = f"{name}: time to a likelihood"
    return Table(f"time-to-nll-{name}", title, NOTE, frame, columns=COLUMNS)


def _seconds(row: pd.Series) -> float | str:
    """Median seconds, or in words why there are none."""
    if row["status"] != "done":
        return str(row["status"])
    if np.isnan(row["seconds"]):
        return "not timed"
    reached = np.isfinite(row["seconds"])
    return float(row["seconds"]) if reached else f"not reached in {row['train_seconds']:.3g} s"
