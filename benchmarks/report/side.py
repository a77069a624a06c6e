"""A results folder as a report takes it: its plan, the records in it, and where they stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.core import plan as plans
from benchmarks.core import store
from benchmarks.core.frame import long_frame
from benchmarks.core.plan import Plan
from benchmarks.core.record import Record
from benchmarks.datasets import own
from benchmarks.execution.versions import standing

CHANGED = "the code that measured it has changed since"


@dataclass(frozen=True)
class Standing:
    """Where a planned case stands: done, failed, timeout, skipped, stale or missing, and why."""

    key: str
    study: str
    label: str
    state: str
    reason: str


@dataclass(frozen=True)
class Side:
    """The cases of a plan with their records; ``outside`` records stand in no plan.

    Keys are those of the records, after the ``label`` where a report has several sides. Of those
    none is called stale: a before and an after are of different code on purpose.
    """

    label: str
    plan: Plan
    records: Mapping[str, Record]
    standings: tuple[Standing, ...]
    frame: pd.DataFrame
    outside: int

    @property
    def stale(self) -> list[str]:
        """The keys of stale records."""
        return [case.key for case in self.standings if case.state == "stale"]

    @property
    def counts(self) -> Counter[str]:
        """How many cases are in which state."""
        return Counter(case.state for case in self.standings)

    def listed(self) -> Iterator[tuple[str, dict[str, object]]]:
        """Of each record its key, and what a list of records says of it."""
        for case in self.standings:
            if (record := self.records.get(case.key)) is not None:
                yield (
                    case.key,
                    {
                        "Study": case.study,
                        "Case": case.label,
                        "State": case.state,
                        "Measured": record.started,
                        "Seconds": record.seconds,
                        "Code": record.fingerprint,
                    },
                )


def read(folder: Path, label: str = "") -> Side:
    """A results folder; ValueError where it is none."""
    found = store.read(store.existing(folder))
    plan = plans.plan_of(folder, found)
    prefix = f"{label}/" if label else ""
    kept = {case.key: found[case.key] for case in plan.cases if case.key in found}
    for record in kept.values():
        own.admit(record.case.dataset or "")
    frame = long_frame(folder, kept, plan)
    if len(frame):
        frame["key"] = prefix + frame["key"]
    standings = tuple(_standings(plan, kept, prefix))
    records = {prefix + key: record for key, record in kept.items()}
    return Side(label, plan, records, standings, frame, len(found) - len(kept))


def _standings(plan: Plan, records: Mapping[str, Record], prefix: str) -> Iterator[Standing]:
    for case in plan.cases:
        record = records.get(case.key)
        label = case.label or (record.case.label if record else "")
        state, reason = (record.status, record.reason) if record else ("missing", "not measured")
        if record and not prefix and standing(record).reason:
            state = "stale" if state == "done" else state  # what failed has no numbers to be old
            reason = "; ".join(filter(None, [reason, CHANGED]))
        label = label.removeprefix(f"{case.study} ")
        yield Standing(prefix + case.key, case.study, label, state, reason)
