"""From a task to records: what is to be measured of it, and what is written of what comes."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.core import store
from benchmarks.core.case import Case, defaults_of, digest
from benchmarks.core.record import Declared, Record, Status, Values
from benchmarks.core.study import Result, Skipped, Study, registry
from benchmarks.execution.plan import WEIGHTS, Task
from benchmarks.execution.process import Files, Measured, Worker, measured
from benchmarks.execution.versions import (
    Dependencies,
    dependencies_at_hand,
    plugins_of,
    source_of,
)
from benchmarks.measure.machine import commit, versions

CHECKPOINTS = "checkpoints"  # the subfolder of cases that were cut off
GRACE = 90.0  # seconds that workers have to come to a checkpoint


class Terminated(KeyboardInterrupt):
    """The process was asked to end: trainings stop at a checkpoint, and go on in the next run."""


class ClusterError(RuntimeError):
    """A cluster cannot measure; the message says what to change."""


class Progress(Protocol):
    """Who is told of a run's progress."""

    def begin(self, cases: Sequence[Case], kept: int, budget: float) -> None: ...

    def task(self, task: Task) -> None: ...

    def case(self, task: Task, case: Case, record: Record) -> None: ...

    def waiting(self, reason: str) -> None: ...

    def workers(self, count: int) -> None: ...


@dataclass
class Recorder:
    """Resolves the cases of tasks, and writes what is measured into a folder."""

    folder: Path
    limit: float  # seconds that one task may take
    before: Mapping[str, Record] = field(default_factory=dict)  # of the folder as it was
    keep_weights: bool = False  # of flows that are trained

    def ready(self, task: Task, waiting: Collection[str]) -> bool:
        """Whether all that the cases of a task need has its record, and none is ``waiting``."""
        keys = {key for case in task.cases for key in case.needs}
        return keys.isdisjoint(waiting) and all(map(self._has, keys))

    def _has(self, key: str) -> bool:
        try:
            return bool(store.read_one(self.folder, key))
        except (KeyError, ValueError):
            return False

    def begin(self, task: Task) -> tuple[Order, list[tuple[Case, Record]]]:
        """What is to be measured of a task, and the records of cases that need no measurement."""
        order = Order(self.limit, {case.key: case for case in task.cases})
        settled = []
        for key, case in order.planned.items():
            order.needs[key] = needs = dependencies_at_hand(case)
            mark = digest([needs.declared, needs.files])[:16]
            weights = (self.folder / WEIGHTS / key).absolute() if self.keep_weights else None
            checkpoint = (self.folder / CHECKPOINTS / f"{key}-{mark}.safetensors").absolute()
            order.files[key] = Files(checkpoint, weights)
            try:
                order.cases[key] = resolved = self._resolved(case)
            except (Skipped, ValueError) as reason:
                status: Status = "skipped" if isinstance(reason, Skipped) else "failed"
                outcome = Measured(Result(failure=str(reason)), 0.0, None, status)
                settled.append((case, self.write(order, key, outcome)))
                continue
            first = not self.keep_weights and key not in self.before
            if first and (source := source_of(resolved, self.before)):
                del order.cases[key]
                settled.append((case, self._repeat(order, case, resolved, source)))
        return order, settled

    def records(self, task: Task, worker: Worker) -> Iterator[tuple[Case, Record]]:
        """Measure a task by a worker; yield each case with its record as it comes."""
        order, settled = self.begin(task)
        yield from settled
        for key, outcome in order.measured(worker):
            yield order.planned[key], self.write(order, key, outcome)

    def write(self, order: Order, key: str, outcome: Measured) -> Record:
        """Write the record of a case, and remove the files that it needs no more."""
        case, result, needs = order.planned[key], outcome.result, order.needs[key]
        here = {"versions": versions(), "commit": commit()}
        here |= {"started": datetime.now(UTC).isoformat(timespec="seconds")}
        record = Record(
            case=order.cases.get(key, case),
            key=key,
            identity=case.identity,
            defaults=defaults_of(case),
            declared={name: Declared(*own) for name, own in needs.declared.items()},
            files=dict(needs.files),
            plugins=plugins_of(case),
            status=outcome.status if result.failure else "done",
            reason=result.failure,
            metrics={name: Values.of(name, values) for name, values in result.metrics.items()},
            notes=dict(result.notes),
            seconds=outcome.seconds,
            shared=outcome.shared,
            **{**here, **outcome.facts},
        )
        self._store(order, record, result.arrays)
        return record

    def _resolved(self, case: Case) -> Case:
        """The case as it is measured; `Skipped` and ValueError as of `Study.resolved`."""
        study: Study = registry[case.study]
        study.admit(case)
        earlier = [store.read_one(self.folder, key) for key in case.needs]
        return study.resolved(case, earlier).changed(resolves=case.key) if earlier else case

    def _repeat(self, order: Order, case: Case, resolved: Case, source: Record) -> Record:
        """The record of a case whose work is that of another, which has its record."""
        changes = {"case": resolved, "key": case.key, "identity": case.identity}
        notes = source.notes | {"same_as": source.key}
        record = source.model_copy(update={**changes, "notes": notes})
        self._store(order, record, store.arrays_of(self.folder, source))
        return record

    def _store(self, order: Order, record: Record, arrays: Mapping[str, np.ndarray]) -> None:
        store.write(self.folder, record, dict(arrays))
        if not self.keep_weights:  # those that there are were of another training
            shutil.rmtree(self.folder / WEIGHTS / record.key, ignore_errors=True)
        needed = order.files[record.key].checkpoint.name if record.status != "done" else ""
        for path in (self.folder / CHECKPOINTS).glob(f"{record.key}-*"):
            if path.name != needed:
                path.unlink(missing_ok=True)


@dataclass
class Order:
    """A task on its way: its cases as planned, those that are measured, and what they depend on."""

    limit: float  # seconds
    planned: dict[str, Case]
    cases: dict[str, Case] = field(default_factory=dict)  # as they are measured
    files: dict[str, Files] = field(default_factory=dict)
    needs: dict[str, Dependencies] = field(default_factory=dict)

    def measured(self, worker: Worker) -> Iterator[tuple[str, Measured]]:
        """Yield each case's key and outcome as it comes."""
        if self.cases:
            yield from measured(worker, list(self.cases.values()), self.limit, self.files)
