"""Running a suite: cases that have no valid record are measured, block by block, and recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import filelock

from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.naming import labels
from benchmarks.core.store import Record, Status, Values
from benchmarks.core.study import Result, registry
from benchmarks.execution.fingerprint import fingerprint
from benchmarks.execution.suite import Suite, blocks
from benchmarks.execution.worker import Worker, WorkerLost
from benchmarks.measure.machine import commit, versions

CHECKPOINTS = "checkpoints"  # the subfolder with those of cases that were cut off


class FolderError(RuntimeError):
    """A results folder that cannot be used; the message says why."""


class Busy(FolderError):
    """Another run holds the results folder."""


class Progress(Protocol):
    """Who is told of a run's progress."""

    def begin(self, cases: Sequence[Case], kept: int, budget: float) -> None: ...

    def block(self, cases: Sequence[Case]) -> None: ...

    def case(self, case: Case, record: Record) -> None: ...


@dataclass
class State:
    """The cases of a suite against the records of a folder."""

    cases: list[Case]
    prints: dict[str, str]
    records: dict[str, Record]
    valid: set[str] = field(default_factory=set)  # done under the present code
    failed: set[str] = field(
        default_factory=set
    )  # measured under the present code, without success
    stale: set[str] = field(
        default_factory=set
    )  # recorded under another code, or on another machine
    missing: set[str] = field(default_factory=set)


def state(suite: Suite, folder: Path) -> State:
    """Where a suite stands in a results folder; ValueError for a suite that cannot be expanded."""
    cases = suite.cases()
    records = store.read(folder)
    found = State(cases, {case.key: fingerprint(case) for case in cases}, records)
    for case in cases:
        record = records.get(case.key)
        if record is None:
            found.missing.add(case.key)
        elif record.fingerprint != found.prints[case.key]:
            found.stale.add(case.key)
        else:
            (found.valid if record.status == "done" else found.failed).add(case.key)
    return found


def run(
    suite: Suite,
    folder: Path,
    progress: Progress,
    *,
    plugins: Sequence[str] = (),
    retry: bool = False,
) -> State:
    """Measure what has no valid record, and return where the suite then stands.

    Failures stand until the code changes or ``retry`` is set; a training that was cut off, or that
    failed afterwards, goes on from its checkpoint where it left one. Raises FolderError where the
    folder is held or cannot be written and ValueError for a suite that cannot be expanded.
    """
    with _alone(folder):
        now = state(suite, folder)
        wanted = now.missing | now.stale | (now.failed if retry else set())
        todo = [case for case in now.cases if case.key in wanted]
        _write_plan(suite, folder, now.cases)
        budget = sum(registry[case.study].budget(case) for case in todo)
        progress.begin(todo, len(now.cases) - len(todo), budget)
        worker = Worker(
            threads=suite.threads,
            device=suite.device,
            memory_share=suite.memory_share,
            plugins=plugins,
        )
        try:
            for block in blocks(todo):
                progress.block(block)
                for case, record in _measured(worker, block, suite.time_limit, now.prints, folder):
                    progress.case(case, record)
        finally:
            worker.stop()
        return state(suite, folder) if todo else now


def _measured(
    worker: Worker, block: Sequence[Case], limit: float, prints: dict[str, str], folder: Path
) -> Iterator[tuple[Case, Record]]:
    """Measure a block and record each case; if the worker is lost, its cases one at a time."""
    started = datetime.now(UTC)
    left = {case.key: case for case in block}
    loss: WorkerLost | None = None
    try:
        slots = {key: folder / CHECKPOINTS / f"{key}-{prints[key]}.safetensors" for key in left}
        for key, result in worker.measure(block, limit, slots):
            case = left.pop(key)
            record = _record(case, result, worker, prints[key], started)
            store.write(folder, record, result.arrays)
            for path in (folder / CHECKPOINTS).glob(
                f"*{key}-*"
            ):  # of older code, and half ones, too
                if record.status == "done" or path != slots[key]:
                    path.unlink()
            started = datetime.now(UTC)  # the next of the block is measured from here
            yield case, record
    except WorkerLost as error:
        loss = error
    if loss is not None and len(block) > 1:
        for case in left.values():
            yield from _measured(worker, [case], limit, prints, folder)
    elif loss is not None:
        for case in left.values():
            status: Status = "timeout" if loss.timed_out else "failed"
            lost = Result(failure=str(loss))
            record = _record(case, lost, worker, prints[case.key], started, status)
            store.write(folder, record)
            yield case, record


def _record(
    case: Case,
    result: Result,
    worker: Worker,
    fingerprint: str,
    started: datetime,
    status: Status | None = None,
) -> Record:
    return Record(
        case=case,
        key=case.key,
        fingerprint=fingerprint,
        status=status or ("failed" if result.failure else "done"),
        reason=result.failure,
        metrics={name: Values.of(name, values) for name, values in result.metrics.items()},
        notes=dict(result.notes),
        machine=worker.machine,
        versions=versions(),
        commit=commit(),
        started=started.isoformat(timespec="seconds"),
        seconds=(datetime.now(UTC) - started).total_seconds(),
    )


def _write_plan(suite: Suite, folder: Path, cases: Sequence[Case]) -> None:
    """What the folder is to hold, for a report to know what is missing."""
    told = labels(cases)
    listed = [{"key": c.key, "study": c.study, "label": told[c.key]} for c in cases]
    plan = {
        "name": suite.name,
        "about": suite.about,
        "suite": suite.model_dump(mode="json"),
        "cases": listed,
    }
    store.replace(folder / "suite.json", json.dumps(plan, indent=1).encode())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a results folder; FolderError where that cannot be. A killed holder lets go."""
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise Busy(
            f"another run holds {str(folder)!r}: wait for it, or choose another --out"
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FolderError(f"{str(folder)!r} cannot be a results folder: {reason}") from error
    try:
        yield
    finally:
        lock.release()
