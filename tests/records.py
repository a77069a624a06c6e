"""Records of tests, as a run would write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.record import Record, Values
from benchmarks.core.study import Result
from benchmarks.datasets.disk import Absent
from benchmarks.execution.versions import dependencies
from flows.registry import Declared


def record_of(case: Case, metrics: Mapping[str, Any] | None = None, **fields: Any) -> Record:
    """A record of a case, done unless ``fields`` say otherwise."""
    values = {name: Values.of(name, value) for name, value in (metrics or {}).items()}
    content: dict[str, Any] = {
        "status": "done",
        "metrics": values,
        "declared": declared_now(case),
        **fields,
    }
    return Record(case=case, key=case.key, identity=case.identity, **content)


def declared_now(case: Case) -> Mapping[str, Declared]:
    """What the flow and the data of a case declare now, whether its study is registered or not."""
    try:
        return dependencies(case.changed(study="cost")).declared
    except (Absent, ValueError):
        return {}


def record_result(case: Case, result: Result) -> Record:
    """A record of what a study measured."""
    status = "failed" if result.failure else "done"
    notes = dict(result.notes)
    return record_of(case, result.metrics, status=status, reason=result.failure, notes=notes)


def write_result(folder: Path, case: Case, result: Result) -> None:
    """Write what a study measured into a results folder, with its arrays."""
    store.write(folder, record_result(case, result), result.arrays)
