"""Results folders for a report: plans, records, and which of them are current."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.core import store
from benchmarks.core.frame import labels, long_frame
from benchmarks.core.plan import Plan, Planned, plan_of
from benchmarks.core.quotable import cautions, of_one_place, places
from benchmarks.core.record import Record
from benchmarks.datasets.tables import admit
from benchmarks.execution.versions import Standing, not_checked, standing


@dataclass(frozen=True)
class CaseState:
    """What became of a planned case: done, failed, timeout, skipped, stale or missing, and why."""

    key: str
    study: str
    label: str
    state: str
    reason: str


@dataclass(frozen=True)
class Run:
    """The cases of a plan with their records; ``outside`` counts records that stand in no plan.

    Keys are those of the records, after the ``label`` where a report has several runs. The
    ``frame`` has times of one ``place`` alone (machine class and torch, "" of no times), which
    ``note`` says. ``cautions`` are by key why a record's times are not to be quoted, ``unchecked``
    says how many records could not be checked.
    """

    label: str
    plan: Plan
    records: Mapping[str, Record]
    states: tuple[CaseState, ...]
    frame: pd.DataFrame
    place: str
    note: str
    cautions: Mapping[str, str]
    outside: int
    unchecked: str = ""

    @property
    def stale(self) -> list[str]:
        """The keys of records whose counts and qualities are stale."""
        return [case.key for case in self.states if case.state == "stale"]

    @property
    def counts(self) -> Counter[str]:
        """How many cases are in which state."""
        return Counter(case.state for case in self.states)

    def listed(self) -> Iterator[tuple[str, dict[str, object]]]:
        """For each record its key, and what a list of records says of it."""
        for case in self.states:
            if (record := self.records.get(case.key)) is not None:
                yield (
                    case.key,
                    {
                        "Study": case.study,
                        "Case": case.label,
                        "State": case.state,
                        "Times": self.cautions.get(case.key),
                        "Measured": record.started,
                        "Seconds": record.seconds,
                        "Code": record.fingerprint,
                    },
                )


def read(folders: Sequence[Path]) -> list[Run]:
    """Results folders, named apart; ValueError for one that is none or is given twice."""
    named = labels(folders)
    return [_read(path, name, len(named) > 1) for path, name in zip(folders, named, strict=True)]


def side_by_side(runs: Sequence[Run]) -> list[pd.DataFrame]:
    """The records of all runs in one frame for each place that their times are of.

    A run without times stands in the first. ``run`` keeps the names of all in parts of a frame.
    """
    first = next((run.place for run in runs if run.place), "")
    groups: dict[str, list[pd.DataFrame]] = {first: []}
    for run in runs:
        if len(run.frame):
            groups.setdefault(run.place or first, []).append(run.frame)
    names = [run.label for run in runs]
    return [
        pd.concat(group, ignore_index=True).assign(run=lambda f: pd.Categorical(f["run"], names))
        for group in groups.values()
        if group
    ]


def _read(folder: Path, label: str, several: bool) -> Run:
    records = store.read(store.existing(folder))
    plan = plan_of(folder, records)
    planned = dict.fromkeys(case.key for case in plan.cases)
    planned_records = {key: records[key] for key in planned if key in records}
    for record in planned_records.values():
        admit(record.case.dataset or "")
    prefix = f"{label}/" if several else ""
    standings = {prefix + key: standing(record) for key, record in planned_records.items()}
    named = {prefix + key: record for key, record in planned_records.items()}
    frame = long_frame(folder, planned_records, plan, label)
    reasons: dict[str, str] = {}
    place = ""
    if len(frame):
        frame["key"] = prefix + frame["key"]
        timed = places(frame)
        reasons = _cautions(frame[timed.notna()], standings)
        place = next(iter(timed.value_counts().index), "")
    frame, note = of_one_place(frame)
    states = tuple(_states(plan, named, standings, prefix))
    outside, unchecked = len(records) - len(planned_records), not_checked(standings.values())
    return Run(label, plan, named, states, frame, place, note, reasons, outside, unchecked)


def _cautions(timed: pd.DataFrame, standings: Mapping[str, Standing]) -> dict[str, str]:
    """Why the times of records are not to be quoted, by key; those that may be are not in it."""
    reasons = dict(zip(timed["key"], cautions(timed), strict=True))
    stale = {key: standings[key].times for key in reasons}
    return {key: text for key in reasons if (text := stale[key] or reasons[key])}


def _states(
    plan: Plan, records: Mapping[str, Record], standings: Mapping[str, Standing], prefix: str
) -> Iterator[CaseState]:
    """The state of each planned case."""
    for case in _once(plan):
        key = prefix + case.key
        record = records.get(key)
        label = case.label or (record.case.label if record else "")
        state, reason = (record.status, record.reason) if record else ("missing", "not measured")
        if record and (moved := standings[key].reason):
            if state == "done":  # what failed has no numbers to be old
                state = "stale" if standings[key].counts else "stale in times"
            reason = "; ".join(filter(None, [reason, moved]))
        yield CaseState(key, case.study, label.removeprefix(f"{case.study} "), state, reason)


def _once(plan: Plan) -> list[Planned]:
    """The cases of a plan, each key once."""
    cases: dict[str, Planned] = {}
    for case in plan.cases:
        cases.setdefault(case.key, case)
    return list(cases.values())
