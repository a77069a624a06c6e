"""What is compared: results folders, single records, or files of pytest-benchmark."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core import naming, store
from benchmarks.core.frame import REFERENCE, minor, place, plan_of
from benchmarks.core.naming import labels
from benchmarks.core.record import Record, Values, parsed
from benchmarks.gate import pytest_benchmark
from flows.continuous.solve import FIXED


@dataclass(frozen=True)
class Entry:
    """One case of a result."""

    label: str
    group: str  # of the cases that differ in nothing but their seeds
    seed: str
    status: str
    reason: str
    metrics: Mapping[str, Values]
    place: str = ""  # times can be compared if it is equal, and not empty
    record: Record | None = None  # None of a benchmark of pytest-benchmark

    def kind(self, name: str) -> str:
        """How a metric is compared: evaluations that the data decide are not exact."""
        metric = self.metrics[name].metric
        inexact = metric.kind == "exact" and metric.solves and _adaptive(self.record)
        return "quality" if inexact else metric.kind

    def relative(self, name: str) -> np.ndarray | None:
        """Samples of a time, or inverse ones of a rate, over the reference workload's median.

        None if either is missing, NaN if the reference workload's values are not times.
        """
        own, reference = self.metrics[name], self.metrics.get(REFERENCE)
        if reference is None or not reference.values or not own.values:
            return None
        values, inverse = np.asarray(own.values, dtype=float), own.metric.better == "higher"
        unit = reference.median if 0 < min(reference.values) < math.inf else math.nan
        with np.errstate(divide="ignore"):  # a rate of zero
            return np.asarray((1 / values if inverse else values) / unit)


@dataclass(frozen=True)
class Source:
    """What a path holds: records, or rows of `pytest_benchmark`."""

    path: Path
    records: Sequence[Record] = ()
    benchmarks: Sequence[Mapping[str, Any]] = ()

    @property
    def form(self) -> str:
        return "records" if self.records else "benchmarks of pytest-benchmark"

    @property
    def facts(self) -> dict[str, str]:
        """Versions of the protocol of measuring and minor ones of torch, each in one text."""
        protocols = {record.case.protocol for record in self.records}
        protocols |= {str(row["machine"].get("protocol", "unknown")) for row in self.benchmarks}
        torch = {minor(record.versions) for record in self.records}
        torch |= {minor(row["versions"]) for row in self.benchmarks}
        return {"protocol": ", ".join(sorted(protocols)), "torch": ", ".join(sorted(torch))}


def read(path: Path, *, whole: bool = False) -> Source:
    """Read a path; ValueError if it holds nothing to compare, or cannot be read.

    In a results folder that has a plan, the cases of the plan count; all have to be there for a
    ``whole`` run.
    """
    if not path.exists():
        raise ValueError(
            f"{str(path)!r} does not exist: flowgauge run measures a suite, flowgauge baseline "
            "update makes a baseline of its results, pytest --benchmark-json writes a file"
        )
    if whole or (path.is_dir() and store.is_folder(path)):
        return Source(path, _records(store.existing(path), whole))
    if path.is_dir() or "case" not in pytest_benchmark.content(path):
        return Source(path, benchmarks=pytest_benchmark.read(path))
    try:
        return Source(path, [parsed(path.read_bytes(), path.stem)])
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error


def _records(folder: Path, whole: bool) -> list[Record]:
    for file, reason in store.corrupt(folder).items():
        raise ValueError(f"{str(file)!r}: {reason}")
    if lost := store.gone(folder):
        raise ValueError(f"{str(lost[0])!r} is gone, and what it held: restore it")
    if unread := [*store.newer(folder)]:
        raise ValueError(
            f"{str(folder)!r} has records of a newer schema, {unread[0]!r} among them: "
            "update flowgauge"
        )
    records = store.read(folder)
    planned = {case.key for case in plan_of(folder, records).cases}
    missing = len(planned - records.keys())
    if missing and whole:
        raise ValueError(f"{str(folder)!r} lacks {missing} of the {len(planned)} cases of its plan")
    if missing == len(planned):
        raise ValueError(f"{str(folder)!r} holds no record of its plan")
    return [record for key, record in records.items() if key in planned]


def check_comparable(base: Source, new: Source) -> None:
    """ValueError if two results cannot be compared at all."""
    if base.form != new.form:
        raise ValueError(
            f"compare like with like: {str(base.path)!r} holds {base.form}, "
            f"{str(new.path)!r} {new.form}"
        )
    for what, old in base.facts.items():
        now = new.facts[what]
        if old != now or "," in old:
            raise ValueError(
                f"cannot compare {str(base.path)!r} and {str(new.path)!r}: {what} {old} against "
                f"{now}; renew the baseline: run its suite again, then flowgauge baseline update"
            )


def entries(base: Source, new: Source) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """The cases of both results by what they have in common, with labels that tell them apart."""
    if base.benchmarks:
        sides = [[_micro(row) for row in source.benchmarks] for source in (base, new)]
        before, after = ({entry.label: entry for entry in side} for side in sides)
        return before, after
    cases = naming.common([[r.case for r in source.records] for source in (base, new)])
    by_key = {case.key: case for side in cases for case in side}
    seedless = {key: case.changed(seeds={}) for key, case in by_key.items()}
    names = labels(by_key.values())
    groups = labels({case.key: case for case in seedless.values()}.values())
    before, after = (
        {
            case.key: _entry(record, names[case.key], groups[seedless[case.key].key])
            for case, record in zip(side, source.records, strict=True)
        }
        for side, source in zip(cases, (base, new), strict=True)
    )
    return before, after


def grouped(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries that differ in nothing but their seeds, by the label of their group."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    return groups


def _entry(record: Record, label: str, group: str) -> Entry:
    case, seeds = record.case, record.case.seeds
    where = place(record.machine, record.versions, case.device)
    where = f"{where}, {case.threads} threads" if record.machine.get("cpu") else ""
    seed = f"{seeds.data} {seeds.init} {seeds.noise} {seeds.batches}"
    return Entry(label, group, seed, record.status, record.reason, record.metrics, where, record)


def _micro(row: Mapping[str, Any]) -> Entry:
    machine, name = row["machine"], row["setting.work"]
    threads = row["threads"] or machine.get("threads")
    where = f"{place(machine, row['versions'])}, {threads} threads" if machine.get("cpu") else ""
    return Entry(name, name, "0", "done", "", row["metrics"], where)


def _adaptive(record: Record | None) -> bool:
    """Whether the data decide how often the field of a record's case is evaluated."""
    if record is None or record.case.device == naming.COUNTED:  # one evaluation is counted
        return False
    if isinstance(solver := record.case.options.get("solver"), Mapping):
        return solver.get("method", "dopri5") not in FIXED
    return not {"rtol", "atol"}.isdisjoint(record.case.options)
