"""Records that serve another case: one that comes to the same configuration and budget.

The key of a case that waits for others depends on their keys, so it changes with the search of any
of them. Where the choice stays the same, so does the measurement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.core.case import Case
from benchmarks.core.record import Record
from benchmarks.core.study import registry as studies
from benchmarks.execution.versions import standing


def related(cases: Sequence[Case], records: Mapping[str, Record]) -> dict[str, Record]:
    """The records of cases, and those that may serve them."""
    keys = {case.key for case in cases}
    keys |= {key for case in cases if case.needs for key in _alike(case, records)}
    return {key: record for key, record in records.items() if key in keys}


def source(case: Case, records: Mapping[str, Record]) -> Record | None:
    """A complete and current record of the work that a case is resolved to; None without one."""
    if not case.resolves:
        return None
    work = _work(case)
    for record in _alike(case, records).values():
        complete = record.status == "done" and not record.pending
        if complete and _work(record.case) == work and not standing(record).reason:
            return record
    return None


def _work(case: Case) -> dict[str, Any]:
    """What is measured: the identity of a resolved case without what decided it."""
    identity = {name: part for name, part in case.identity.items() if name != "needs"}
    settings = identity.get("settings", {})
    deciding = studies[case.study].deciding
    return identity | {"settings": {k: v for k, v in settings.items() if k not in deciding}}


def _alike(case: Case, records: Mapping[str, Record]) -> dict[str, Record]:
    """Records of the same study, flow and data set whose cases were resolved as well."""
    return {
        key: record
        for key, record in records.items()
        if record.case.resolves and _kind(record.case) == _kind(case)
    }


def _kind(case: Case) -> tuple[str, str, str | None]:
    return case.study, case.flow, case.dataset
