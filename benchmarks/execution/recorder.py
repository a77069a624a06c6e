"""From a task to records: a worker measures it, and what comes is written at once."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core import store
from benchmarks.core.case import Case, defaults_of, digest
from benchmarks.core.record import Record, Status, Values
from benchmarks.core.study import Result, Skipped, Study, registry
from benchmarks.execution import repeats
from benchmarks.execution.claims import Claims
from benchmarks.execution.process import Files, Measured, Setup
from benchmarks.execution.tasks import Task
from benchmarks.execution.versions import Dependencies, dependencies_at_hand, plugins_of
from benchmarks.execution.worker import Worker, WorkerLost
from benchmarks.measure.machine import commit, versions

CHECKPOINTS = "checkpoints"  # the subfolder of cases that were cut off, or wait for their times
WEIGHTS = "weights"  # the subfolder of flows, one a case, as `flows.save` writes them
SUPERSEDED = "superseded"  # of results whose task another run had taken over
ORIGIN = ("machine", "versions", "commit", "started", "seconds", "shared", "block")


@dataclass
class Recorder:
    """Measures tasks by a worker and writes their records into a folder, as long as it may."""

    folder: Path
    limit: float  # seconds that one task may take
    claims: Claims
    before: Mapping[str, Record] = field(default_factory=dict)  # of the folder as it was found
    keep_weights: bool = False  # of flows that are trained

    def unmeasured(self, task: Task) -> Task | None:
        """The task without cases that another run has measured meanwhile; None if that is all."""
        left = tuple(case for case in task.cases if not self._measured(case.key, task.times))
        return replace(task, cases=left) if left else None

    def pending(self, case: Case) -> bool:
        """Whether the times of a case are still to be measured."""
        record = self._read(case.key)
        return record is not None and record.pending

    def kept(self, case: Case) -> bool:
        """Whether what the times of a case need is there."""
        return self.files(case.key, dependencies_at_hand(case)).kept.is_file()

    def _measured(self, key: str, times: bool) -> bool:
        if (record := self._read(key)) is None:
            return False
        if times:
            return not record.pending
        before = self.before.get(key)
        return before is None or (before.started, before.block) != (record.started, record.block)

    def _read(self, key: str) -> Record | None:
        try:
            return store.read_one(self.folder, key)
        except (KeyError, ValueError):
            return None

    def ready(self, task: Task, waiting: Collection[str]) -> bool:
        """Whether all that the cases of a task need has its record, and none is ``waiting``."""
        keys = {key for case in task.cases for key in case.needs}
        return keys.isdisjoint(waiting) and all(map(self._read, keys))

    def resolved(self, case: Case, times: bool) -> Case:
        """The case as it is measured, or was where its ``times`` alone are left.

        Raises `Skipped` and ValueError as `Study.resolved` does.
        """
        if times:
            return store.read_one(self.folder, case.key).case if case.needs else case
        study: Study = registry[case.study]
        study.admit(case)
        earlier = [store.read_one(self.folder, key) for key in case.needs]
        return case if not earlier else study.resolved(case, earlier).changed(resolves=case.key)

    def measure(self, worker: Worker, task: Task) -> Iterator[tuple[Case, Record]]:
        """Yield each case with its record; if the worker is lost, go on with one case at a time."""
        measurement = _Measurement(self, worker, task)
        try:
            yield from measurement.records()
        except WorkerLost as loss:
            if len(task.cases) > 1:
                for case in measurement.left.values():
                    yield from self.measure(worker, replace(task, cases=(case,)))
            else:
                for case in measurement.left.values():
                    yield case, measurement.lost(case, loss)

    def fail(self, task: Task, reason: str) -> None:
        """Write records of a task that could not be measured, unless another run holds it."""
        if not self.claims.take(task.name):
            return
        try:
            nobody = Worker(Setup(threads=1, device="cpu", memory_share=1.0))
            measurement = _Measurement(self, nobody, task)
            for case in task.cases:
                measurement.lost(case, WorkerLost(reason))
        finally:
            self.claims.release(task.name)

    def files(self, key: str, needs: Dependencies) -> Files:
        """The files of a case under the versions that are declared now."""
        mark = digest([needs.declared, needs.files])[:16]
        weights = self.folder / WEIGHTS / key if self.keep_weights else None
        return Files.of(self.folder / CHECKPOINTS / f"{key}-{mark}", weights)

    def write(
        self, task: Task, record: Record, arrays: Mapping[str, np.ndarray], files: Files
    ) -> None:
        """Write a record, and remove the files that its case needs no more.

        If another run has taken the task over, the record is set aside.
        """
        if not self.claims.holds(task.name):
            store.write(self.folder / SUPERSEDED / uuid.uuid4().hex[:8], record, arrays)
            return
        store.write(self.folder, record, arrays)
        if not (self.keep_weights or task.times):  # those that there are were of another training
            shutil.rmtree(self.folder / WEIGHTS / record.key, ignore_errors=True)
        wanted = {files.checkpoint} if record.status != "done" else set()
        wanted |= {files.kept} if record.pending else set()
        for path in (self.folder / CHECKPOINTS).glob(f"*{record.key}-*"):
            if path not in wanted:
                path.unlink(missing_ok=True)


@dataclass
class _Measurement:
    """One task on its way: when it began, what its cases depend on, which are left."""

    recorder: Recorder
    worker: Worker
    task: Task
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    begun: float = field(default_factory=time.monotonic)  # the clock of the wall may be set

    def __post_init__(self) -> None:
        self.left = {case.key: case for case in self.task.cases}
        self.needs = {key: dependencies_at_hand(case) for key, case in self.left.items()}
        self.files = {k: self.recorder.files(k, needs) for k, needs in self.needs.items()}
        self.block = digest([self.started.isoformat(), sorted(self.left)])[:16]
        self.resolved: dict[str, Case] = {}

    def records(self) -> Iterator[tuple[Case, Record]]:
        """Yield each case with its record as it comes; WorkerLost where the worker is."""
        recorder, times = self.recorder, self.task.times
        for key, case in list(self.left.items()):
            try:
                self.resolved[key] = recorder.resolved(case, times)
            except (Skipped, ValueError) as reason:
                status: Status = "skipped" if isinstance(reason, Skipped) else "failed"
                measured = Measured(Result(failure=str(reason)), 0.0)
                yield self.left.pop(key), self._written(key, measured, status)
                continue
            first = not (times or recorder.keep_weights or key in recorder.before)
            if first and (source := repeats.source(self.resolved[key], recorder.before)):
                yield self.left.pop(key), self._repeated(case, source)
        if not self.left:
            return
        cases = [self.resolved[key] for key in self.left]
        for key, measured in self.worker.measure(cases, recorder.limit, self.files, times):
            yield self.left.pop(key), self._written(key, measured)

    def lost(self, case: Case, loss: WorkerLost) -> Record:
        """The record of a case whose worker was lost."""
        elapsed = time.monotonic() - self.begun
        status: Status = "timeout" if loss.timed_out else "failed"
        return self._written(case.key, Measured(Result(failure=str(loss)), elapsed), status)

    def _repeated(self, case: Case, source: Record) -> Record:
        """The record of a case whose work is that of another, which is measured."""
        own = {"case": self.resolved[case.key], "key": case.key, "identity": case.identity}
        record = source.model_copy(update=own | {"notes": source.notes | {"same_as": source.key}})
        arrays = store.arrays_of(self.recorder.folder, source)
        self.recorder.write(self.task, record, arrays, self.files[case.key])
        return record

    def _written(self, key: str, measured: Measured, status: Status = "failed") -> Record:
        case = next(case for case in self.task.cases if case.key == key)
        if self.task.times:
            record, arrays = self._completed(case, measured)
        else:
            record, arrays = self._record(case, measured, status), dict(measured.result.arrays)
        self.recorder.write(self.task, record, arrays, self.files[key])
        return record

    def _record(self, case: Case, measured: Measured, status: Status) -> Record:
        result, needs = measured.result, self.needs[case.key]
        return Record(
            case=self.resolved.get(case.key, case),
            key=case.key,
            identity=case.identity,
            defaults=defaults_of(case),
            declared=dict(needs.declared),
            files=dict(needs.files),
            plugins=plugins_of(case),
            status=status if result.failure else "done",
            reason=result.failure,
            metrics=_values(result),
            notes=dict(result.notes),
            pending=measured.pending,
            **self._place(measured),
        )

    def _completed(self, case: Case, measured: Measured) -> tuple[Record, dict[str, np.ndarray]]:
        """A case's record with its times, and all arrays; where they failed, with the reason."""
        folder, result = self.recorder.folder, measured.result
        before = store.read_one(folder, case.key)
        arrays = store.arrays_of(folder, before) | dict(result.arrays)
        origin = {name: getattr(before, name) for name in ORIGIN}
        notes = {"no_times": result.failure} if result.failure else {}
        changes = {
            "metrics": before.metrics | _values(result),
            "notes": before.notes | dict(result.notes) | notes,
            "declared": dict(self.needs[case.key].declared),
            "pending": False,
            "origin": origin,
            **self._place(measured),
        }
        record = before.model_copy(update=changes)
        record.seconds = measured.seconds + (before.seconds or 0.0)
        return record, arrays

    def _place(self, measured: Measured) -> dict[str, Any]:
        """Where, when and with what something was measured."""
        return {
            "machine": self.worker.machine,
            "versions": versions(),
            "commit": commit(),
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": measured.seconds,
            "shared": measured.shared,
            "block": self.block,
        }


def _values(result: Result) -> dict[str, Values]:
    return {name: Values.of(name, values) for name, values in result.metrics.items()}
