"""Running a suite: cases that have no current record are measured, block by block, and recorded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from benchmarks.core import store
from benchmarks.core.case import Case, digest, studies
from benchmarks.core.naming import labels
from benchmarks.core.plan import Plan, Planned
from benchmarks.core.quotable import place
from benchmarks.core.record import Record, Status, Values
from benchmarks.core.study import Result
from benchmarks.execution.suite import Suite, blocks
from benchmarks.execution.versions import Dependencies, Standing, dependencies, standing
from benchmarks.execution.worker import Measured, Worker, WorkerLost
from benchmarks.measure.machine import commit, machine, versions

CHECKPOINTS = "checkpoints"  # the subfolder with those of cases that were cut off


class Progress(Protocol):
    """Who is told of a run's progress."""

    def begin(self, cases: Sequence[Case], kept: int, budget: float) -> None: ...

    def block(self, cases: Sequence[Case]) -> None: ...

    def case(self, case: Case, record: Record) -> None: ...


@dataclass
class State:
    """The cases of a suite against the records of a folder, by key."""

    cases: list[Case]
    records: dict[str, Record]
    standings: dict[str, Standing] = field(default_factory=dict)  # of cases that have a record
    done: set[str] = field(default_factory=set)  # current
    failed: set[str] = field(default_factory=set)  # measured by the present code without success
    stale: set[str] = field(default_factory=set)  # of an earlier version, or in its times
    missing: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)  # done, with times of another machine class
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

    def reason(self, key: str) -> str:
        """Why a case is not done; of one that is, what a reader of its times has to know."""
        if key in self.missing:
            return self.newer.get(key, "not measured")
        if key in self.failed:
            return self.records[key].reason
        if key in self.elsewhere:
            return "times of another class of machine or minor version of torch"
        return self.standings[key].reason


def state(suite: Suite, folder: Path) -> State:
    """Where a suite stands in a results folder; ValueError for a suite that cannot be expanded."""
    cases = suite.cases()
    now = State(cases, store.read(folder), newer=store.newer(folder))
    here = place(machine(suite.device), versions(), suite.device)
    for case in cases:
        record = now.records.get(case.key)
        if record is None:
            now.missing.add(case.key)
            continue
        now.standings[case.key] = current = standing(record)
        if current.reason:
            now.stale.add(case.key)
        else:
            (now.done if record.status == "done" else now.failed).add(case.key)
        if record.timed and place(record.machine, record.versions, case.device) != here:
            now.elsewhere.add(case.key)
    return now


def run(
    suite: Suite,
    folder: Path,
    progress: Progress,
    *,
    retry: bool = False,
    renew_times: bool = False,
    worker: Worker | None = None,
) -> State:
    """Measure what has no current record, and return where the suite then stands.

    Failures stand until a version is raised or ``retry`` is set; ``renew_times`` measures cases
    again whose times are of another class of machine or minor version of torch. A training that
    was cut off, or that failed afterwards, goes on from its checkpoint where it left one. A suite
    that counts operators is measured afresh: it is there to notice what nobody declared. Corrupt
    records are set aside and measured again; those of a newer schema stay, and their cases are left
    out. A ``worker`` that is given measures in place of one of the suite's own, and lives on.
    Raises FolderError where the folder is held or cannot be read or written and ValueError for a
    suite that cannot be expanded.
    """
    with store.held(folder):
        for path, reason in store.set_aside(folder).items():
            text = f"record {path.name} is corrupt and was set aside: {reason}"
            warnings.warn(text, stacklevel=2)
        now = state(suite, folder)
        wanted = now.missing | now.stale | (now.failed if retry else set())
        wanted |= now.elsewhere if renew_times else set()
        if suite.operators:  # what the code does now, whatever it declares
            wanted = {case.key for case in now.cases}
        wanted -= now.newer.keys()
        todo = [case for case in now.cases if case.key in wanted]
        write_plan(suite, folder)
        budget = sum(studies[case.study].budget(case) for case in todo)
        progress.begin(todo, len(now.cases) - len(todo), budget)
        own = Worker(
            threads=suite.threads,
            device=suite.device,
            memory_share=suite.memory_share,
            operators=suite.operators,
        )
        try:
            for block in [[case] for case in todo] if suite.operators else blocks(todo):
                progress.block(block)
                for case, record in _measured(worker or own, block, suite.time_limit, folder):
                    progress.case(case, record)
        finally:
            own.stop()
        return state(suite, folder) if todo else now


def _measured(
    worker: Worker, block: Sequence[Case], limit: float, folder: Path
) -> Iterator[tuple[Case, Record]]:
    """Measure a block and record each case; if the worker is lost, its cases one at a time."""
    started = datetime.now(UTC)
    needs = {case.key: _dependencies(case) for case in block}
    shared = {"started": started.isoformat(timespec="seconds")}
    shared["block"] = digest([started.isoformat(), sorted(needs)])[:16]
    left = {case.key: case for case in block}
    loss: WorkerLost | None = None
    slots = {key: _slot(folder, key, needs[key]) for key in left}
    try:
        for key, measured in worker.measure(block, limit, slots):
            case = left.pop(key)
            record = _record(case, measured, worker, needs[key], shared)
            store.write(folder, record, measured.result.arrays)
            for path in (folder / CHECKPOINTS).glob(f"*{key}-*"):  # of older code, and half ones
                if record.status == "done" or path != slots[key]:
                    path.unlink()
            yield case, record
    except WorkerLost as error:
        loss = error
    if loss is not None and len(block) > 1:
        for case in left.values():
            yield from _measured(worker, [case], limit, folder)
    elif loss is not None:
        elapsed = (datetime.now(UTC) - started).total_seconds()
        for case in left.values():
            status: Status = "timeout" if loss.timed_out else "failed"
            lost = Measured(Result(failure=str(loss)), elapsed)
            record = _record(case, lost, worker, needs[case.key], shared, status)
            store.write(folder, record)
            yield case, record


def _dependencies(case: Case) -> Dependencies:
    """What a case depends on; of one whose data files are absent, what it declares alone."""
    try:
        return dependencies(case)
    except OSError:
        return dependencies(case.changed(dataset=None))


def _slot(folder: Path, key: str, needs: Dependencies) -> Path:
    """The checkpoint of a case under the versions that are declared now."""
    mark = digest([needs.declared, needs.files])[:16]
    return folder / CHECKPOINTS / f"{key}-{mark}.safetensors"


def _record(
    case: Case,
    measured: Measured,
    worker: Worker,
    needs: Dependencies,
    block: dict[str, Any],
    status: Status | None = None,
) -> Record:
    result = measured.result
    return Record(
        case=case,
        key=case.key,
        identity=case.identity,
        declared=dict(needs.declared),
        files=dict(needs.files),
        status=status or ("failed" if result.failure else "done"),
        reason=result.failure,
        metrics={name: Values.of(name, values) for name, values in result.metrics.items()},
        notes=dict(result.notes),
        machine=worker.machine,
        versions=versions(),
        commit=commit(),
        seconds=measured.seconds,
        shared=measured.shared,
        **block,
    )


def write_plan(suite: Suite, folder: Path) -> None:
    """Write what the folder is to hold, for a report to know what is missing."""
    cases = suite.entries()
    names = labels({case.key: case for case in cases}.values())
    planned = [Planned(key=c.key, study=c.study, label=names[c.key], roles=c.roles) for c in cases]
    plan = Plan(
        name=suite.name, about=suite.about, suite=suite.model_dump(mode="json"), cases=planned
    )
    text = json.dumps(plan.model_dump(mode="json"), indent=1)
    store.replace(folder / "suite.json", text.encode())
