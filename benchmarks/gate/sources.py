"""What is compared: results folders, records, or files of pytest-benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.core import frame, naming, pytest_benchmark, store
from benchmarks.core.case import Case
from benchmarks.core.frame import minor, place
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import labels
from benchmarks.core.pytest_benchmark import Benchmark
from benchmarks.core.record import Record, Values, parsed
from flows.continuous.solve import FIXED


@dataclass(frozen=True)
class Entry:
    """One case of a result: ``group`` is what it shows of the same case of other seeds.

    ``adaptive`` says that the data decide how often the case's field is evaluated. Times can be
    compared where ``place`` is equal and known.
    """

    label: str
    group: str
    seed: str
    status: str
    reason: str
    metrics: Mapping[str, Values]
    place: str = ""
    adaptive: bool = False
    record: Record | None = None  # None of a benchmark of pytest-benchmark

    def kind(self, metric: str) -> str:
        """How a metric of this case is compared: evaluations that data decide are not exact."""
        known = METRICS.get(metric)
        kind = known.kind if known else self.metrics[metric].kind
        solves = self.adaptive and known is not None and known.solves
        return "quality" if kind == "exact" and solves else kind

    def median(self, metric: str) -> float | None:
        """The median of a metric's values; None where there is none."""
        middle = self.metrics[metric].median if metric in self.metrics else math.nan
        return None if math.isnan(middle) else middle


@dataclass(frozen=True)
class Source:
    """What a path holds: records, or benchmarks of pytest-benchmark."""

    path: Path
    records: list[Record] = field(default_factory=list)
    benchmarks: list[Benchmark] = field(default_factory=list)

    @property
    def form(self) -> str:
        """Which of the two."""
        return "records" if self.records else "benchmarks of pytest-benchmark"

    @property
    def torch(self) -> set[str]:
        """Minor versions of torch that it was measured with."""
        versions = [record.versions for record in self.records]
        return {minor(v) for v in versions + [b.versions for b in self.benchmarks]}

    @property
    def protocols(self) -> set[str]:
        """Versions of the protocol that it was measured by."""
        named = {str(b.machine.get("protocol", "unknown")) for b in self.benchmarks}
        return named | {record.case.protocol for record in self.records}


def read(path: Path) -> Source:
    """What a path holds; ValueError where that is nothing to compare.

    Of a results folder that has a plan, the cases of the plan count.
    """
    if not path.exists():
        raise ValueError(
            f"{str(path)!r} does not exist: flowgauge run measures a suite, flowgauge baseline "
            "update makes a baseline of its results, pytest --benchmark-json writes a file"
        )
    if path.is_dir() and not store.is_folder(path):
        return Source(path, benchmarks=pytest_benchmark.read(path))
    if path.is_dir():
        if faults := store.corrupt(path):
            file, reason = next(iter(faults.items()))
            raise ValueError(f"{str(file)!r}: {reason}")
        if unread := [*store.newer(path), *map(str, store.newer_parts(path))]:
            raise ValueError(
                f"{str(path)!r} has records of a newer schema, {unread[0]!r} among them: "
                "update flowgauge"
            )
        records = store.read(path)
        planned = {case.key for case in frame.plan_of(path, records).cases}
        planned_records = [record for key, record in records.items() if key in planned]
        if not planned_records:
            raise ValueError(f"{str(path)!r} holds no record of its plan")
        return Source(path, planned_records)
    if "case" in pytest_benchmark.content(path):
        return Source(path, [_record(path)])
    return Source(path, benchmarks=pytest_benchmark.read(path))


def finished(folder: Path) -> Source:
    """The records of a whole run; ValueError where cases of its plan lack or it is no such folder.

    ValueError as well where its records cannot be compared with each other.
    """
    source = read(store.existing(folder))
    comparable(source, source)
    records = {record.key: record for record in source.records}
    planned = {case.key for case in frame.plan_of(folder, records).cases}
    if missing := len(planned - records.keys()):
        raise ValueError(f"{str(folder)!r} lacks {missing} of the {len(planned)} cases of its plan")
    return source


def _record(path: Path) -> Record:
    """A record's file; ValueError where it is none, for a gate must not pass over one."""
    try:
        return parsed(path.read_bytes(), path.stem)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error


def comparable(base: Source, new: Source) -> None:
    """ValueError where two results cannot be compared at all."""
    if base.form != new.form:
        raise ValueError(
            f"compare like with like: {str(base.path)!r} holds {base.form}, "
            f"{str(new.path)!r} {new.form}"
        )
    aspects: dict[str, Callable[[Source], set[str]]] = {
        "protocol": lambda source: source.protocols,
        "torch": lambda source: source.torch,
    }
    for what, of in aspects.items():
        old, now = (", ".join(sorted(of(source))) for source in (base, new))
        if old != now or "," in old:
            raise ValueError(
                f"cannot compare {str(base.path)!r} and {str(new.path)!r}: {what} {old} against "
                f"{now}; renew the baseline: run its suite again, then flowgauge baseline update"
            )


def entries(base: Source, new: Source) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """The cases of both results by what they have in common, with labels that tell them apart."""
    if base.benchmarks:
        named = [{b.name: _benchmark(b) for b in source.benchmarks} for source in (base, new)]
        return named[0], named[1]
    cases = naming.common([[r.case for r in source.records] for source in (base, new)])
    known = {case.key: case for side in cases for case in side}
    seedless = {key: case.changed(seeds={}) for key, case in known.items()}
    names = labels(known.values())
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
    where = _place(record.machine, record.versions, case.threads, case.device)
    return Entry(
        label=label,
        group=group,
        seed=f"{seeds.init} {seeds.noise} {seeds.batches}",
        status=record.status,
        reason=record.reason,
        metrics=record.metrics,
        place=where,
        adaptive=_adaptive(case),
        record=record,
    )


def _benchmark(benchmark: Benchmark) -> Entry:
    threads = benchmark.information.get("threads", benchmark.machine.get("threads"))
    where = _place(benchmark.machine, benchmark.versions, threads)
    return Entry(benchmark.name, benchmark.name, "0", "done", "", benchmark.metrics, where)


def _adaptive(case: Case) -> bool:
    """Whether the data decide how often the case's field is evaluated."""
    if case.device == naming.COUNTED:  # one evaluation is counted
        return False
    solver = case.options.get("solver")
    if isinstance(solver, Mapping):
        return solver.get("method", "dopri5") not in FIXED
    return not {"rtol", "atol"}.isdisjoint(case.options)


def _place(
    machine: Mapping[str, Any], versions: Mapping[str, str], threads: Any, device: str = "cpu"
) -> str:
    """The class of a machine and the number of threads; empty where a record does not say it."""
    cpu = machine.get("cpu", "")
    if isinstance(cpu, Mapping):  # pytest-benchmark's own
        machine = {**machine, "cpu": cpu.get("brand_raw", ""), "cores": cpu.get("count")}
    if not machine.get("cpu"):
        return ""
    return f"{place(machine, versions, device)}, {threads} threads"
