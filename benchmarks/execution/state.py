"""Where a suite stands in a results folder: which cases have a current record, and why not."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.frame import Plan, Planned, place, plan_of
from benchmarks.core.naming import labels
from benchmarks.core.record import Record
from benchmarks.execution.recorder import WEIGHTS
from benchmarks.execution.suite import Suite
from benchmarks.execution.tasks import Shard
from benchmarks.execution.versions import Standing, standing
from benchmarks.measure.machine import machine, versions

WHOLE = Shard()


@dataclass
class State:
    """The cases of a suite against the records of a folder, by key."""

    folder: Path
    cases: list[Case]
    records: dict[str, Record]
    standings: dict[str, Standing] = field(default_factory=dict)  # of cases that have a record
    done: set[str] = field(default_factory=set)  # current
    failed: set[str] = field(default_factory=set)  # measured by the present code without success
    stale: set[str] = field(default_factory=set)  # of an earlier version, or in its times
    missing: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)  # done, with times of another machine class
    pending: set[str] = field(default_factory=set)  # stale for want of times alone
    untimed: set[str] = field(default_factory=set)  # done, and their times could not be measured
    newer: dict[str, str] = field(default_factory=dict)  # missing here: a later release has them

    def named(self) -> dict[str, list[dict[str, str]]]:
        """Key, label and reason of the cases by where they stand, as JSON."""
        names = labels(self.cases)
        return {
            group: [
                {"key": case.key, "label": names[case.key], "reason": self.reason(case.key)}
                for case in self.cases
                if case.key in getattr(self, group)
            ]
            for group in ("done", "failed", "stale", "missing")
        }

    def retried(self) -> set[str]:
        """The keys of cases that failed, have no times or were skipped, for another try."""
        skipped = {key for key in self.done if self.records[key].status == "skipped"}
        return self.failed | self.untimed | skipped

    def unkept(self) -> set[str]:
        """The keys of flows that were trained and scored, and not kept."""
        return {
            case.key
            for case in self.cases
            if case.updates and "scoring" in case.settings
            if case.key in self.done and self.records[case.key].status == "done"
            if not (self.folder / WEIGHTS / case.key).is_dir()
        }

    def reason(self, key: str) -> str:
        """Why a case is not done; of one that is, what a reader of its times has to know."""
        if key in self.missing:
            return self.newer.get(key, "not measured")
        if key in self.failed:
            return self.records[key].reason
        if key in self.untimed:
            return f"no times: {self.records[key].notes['no_times']}"
        if key in self.elsewhere:
            return "times of another class of machine or minor version of torch"
        if key in self.pending:
            return "times are still to be measured"
        return self.standings[key].reason


def state(suite: Suite, folder: Path, shard: Shard = WHOLE) -> State:
    """Where a suite, or its shard, stands in a results folder.

    ValueError for a suite that cannot be expanded.
    """
    cases = shard.part(suite.cases(), suite.operators)
    now = State(folder, cases, store.read(folder), newer=store.newer(folder))
    here = _here(suite.device)
    for case in cases:
        record = now.records.get(case.key)
        if record is None:
            now.missing.add(case.key)
            continue
        now.standings[case.key] = current = standing(record)
        if current.reason:
            now.stale.add(case.key)
        elif record.pending:
            now.stale.add(case.key)
            now.pending.add(case.key)
        else:
            (now.done if record.status in ("done", "skipped") else now.failed).add(case.key)
        if "no_times" in record.notes and case.key in now.done:
            now.untimed.add(case.key)
        there = place(record.machine, record.versions, case.device)
        if record.timed and here is not None and there != here:
            now.elsewhere.add(case.key)
    return now


def _here(device: str) -> str | None:
    """The place of this machine's times; None where it has no such device and only plans."""
    try:
        return place(machine(device), versions(), device)
    except (RuntimeError, AssertionError):
        return None


def write_plan(suite: Suite, folder: Path, shard: Shard = WHOLE) -> None:
    """Write what the folder is to hold, for a report to know what is missing.

    Of a shard its cases, and those of other shards that the folder's plan has already.
    """
    cases = suite.entries()
    names = labels({case.key: case for case in cases}.values())
    own = {case.key for case in shard.part(suite.cases(), suite.operators)}
    asked = suite.model_dump(mode="json")
    if shard != WHOLE:
        with suppress(ValueError):  # a plan that cannot be read is replaced
            before = plan_of(folder, {})
            own |= {case.key for case in before.cases} if before.suite == asked else set()
    planned = [
        Planned(key=case.key, study=case.study, label=names[case.key], roles=case.roles)
        for case in cases
        if case.key in own
    ]
    plan = Plan(name=suite.name, about=suite.about, suite=asked, cases=planned)
    text = json.dumps(plan.model_dump(mode="json"), indent=1)
    store.replace(folder / "suite.json", text.encode())
