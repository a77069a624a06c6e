"""Tables of libraries' likelihoods: what each member reaches, and its difference to the first's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import paired
from benchmarks.analysis.criteria import LEVEL
from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.naming import name_runs
from benchmarks.studies.architectures import differences

STAGES = {"updates": "equal updates", "seconds": "equal seconds"}  # what is equal in a group
STANDS = {"ahead": "ahead", "level": "level", "behind": "behind", "open": "not told apart"}
NOTE = (
    "Mean test log-likelihood in nats over seeds and their splits, ± half of its "
    f"{1 - LEVEL:.0%} interval, after equal updates, and after as many updates as equal seconds "
    "have room for, alone on the machine, by the rate that was measured first. No seconds of "
    "compiling count there. Difference: to the first member, paired by seed and split, with its "
    "interval in brackets. Against the first a member is ahead, level, behind or not told apart, "
    f"tested together for its group at a level of {LEVEL:g} (Student's t, Holm). Rows, batches, "
    "learning rates and validations are the same for all members."
)


def tables(frame: pd.DataFrame) -> list[Table]:
    """For each data set a row a member; and what tells the members apart."""
    rows = comparisons(frame)
    columns = {
        "group": Column("Group"),
        "member": Column("Member"),
        "parameters": Column.of("parameters", digits=",.0f"),
        "update_rate": Column.of("update_rate", digits=".3g"),
        "step_compile_seconds": Column.of("step_compile_seconds", digits=".2g"),
    }
    for stage, words in STAGES.items():
        half, interval = f"{stage}.half", f"{stage}.difference.interval"
        columns[f"{stage}.updates"] = Column(f"Updates, {words}", digits=",.0f")
        columns[f"{stage}.test_ll"] = Column(f"At {words}", "nats", digits=".3f", error=half)
        header = f"Difference, {words}"
        columns[f"{stage}.difference"] = Column(header, "nats", digits="+.3f", interval=interval)
        columns[f"{stage}.stands"] = Column(f"Stands, {words}")
    listed = []
    for name, own in rows.groupby("dataset", sort=False):
        known = [column for column in columns if own[column].notna().any()]
        beside = [part for column in known for part in columns[column].beside]
        table = own[[*known, *beside, RECORDS]].reset_index(drop=True)
        title = f"{name}: likelihood by library"
        listed.append(Table(f"library_likelihoods-{name}", title, NOTE, table, columns))
    return [*listed, *differences(frame)]


def comparisons(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, group and member, the reference of a group first.

    Columns: dataset, group, member, parameters, update_rate, step_compile_seconds; of each stage,
    under its name, ``updates``, ``test_ll`` with ``half``, and but for the reference ``difference``
    with ``.interval``, and ``stands``, of `STANDS`; records. A member without a likelihood has the
    status of its first training in place of it.
    """
    names = ["dataset", "group", "member", "parameters", "update_rate", "step_compile_seconds"]
    parts = ("updates", "test_ll", "half", "difference", "difference.interval", "stands")
    names += [f"{stage}.{part}" for stage in STAGES for part in parts]
    return pd.DataFrame(_rows(frame), columns=[*names, RECORDS])


def _rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    frame = name_runs(frame, "setting.group")
    for (dataset, group), own in frame.groupby(["dataset", "setting.group"], sort=False):
        members = {
            str(member): rows
            for member, rows in own.sort_values("setting.place", kind="stable").groupby(
                "setting.member", sort=False
            )
        }
        rows = {
            member: {"dataset": dataset, "group": group, "member": member, **_known(records)}
            for member, records in members.items()
        }
        for stage in STAGES:
            trained = {m: r[r["setting.stage"] == stage] for m, r in members.items()}
            for member, columns in _stage(trained).items():
                rows[member] |= {f"{stage}.{name}": value for name, value in columns.items()}
        yield from rows.values()


def _known(records: pd.DataFrame) -> dict[str, Any]:
    """What is known of a member beside its likelihoods."""
    names = ("parameters", "update_rate", "step_compile_seconds")
    nothing = pd.Series(np.nan, records.index)
    return {n: records.get(n, nothing).median() for n in names} | {RECORDS: tuple(records["key"])}


def _stage(trained: dict[str, pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """Columns of each member by its trainings of one stage, the reference first."""
    done = {member: rows[rows["status"] == "done"] for member, rows in trained.items()}
    first = next(iter(done.values()))
    compared = {
        member: paired.compare(rows, first)
        for member, rows in done.items()
        if rows is not first and len(rows) and len(first)
    }
    standings = paired.standing(compared)
    columns: dict[str, dict[str, Any]] = {}
    for member, rows in done.items():
        if rows.empty:
            status = trained[member]["status"]
            columns[member] = {"test_ll": status.iloc[0] if len(status) else np.nan}
            continue
        values = rows["test_ll"].to_numpy(dtype=float)
        half = paired.over_seeds(rows, values).half(LEVEL) if len(rows) > 1 else np.nan
        own = {"updates": rows["updates"].median(), "test_ll": values.mean(), "half": half}
        if member in compared:
            value, size = compared[member].estimate.value, compared[member].half
            own |= {"difference": value, "difference.interval": (value - size, value + size)}
            own["stands"] = STANDS[standings[member]]
        columns[member] = own
    return columns
