"""The two sides of a comparison: results folders, records, or files of pytest-benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.core import micro_results, plan
from benchmarks.core.case import Case
from benchmarks.core.micro_results import Micro
from benchmarks.core.naming import labels
from benchmarks.core.store import Record, Values
from flows.continuous.solve import FIXED

ONCE = ("field_", "rate_", "linear_", "precomputation_", "evaluation_")  # whatever the solver does


@dataclass(frozen=True)
class Entry:
    """One case of a side: ``group`` is what it shares with the same case of other seeds.

    ``place`` is what has to be equal for two times to be comparable.
    """

    label: str
    group: str
    seed: str
    status: str
    reason: str
    metrics: Mapping[str, Values]
    place: str = ""


@dataclass(frozen=True)
class Side:
    """What a path holds: records, or benchmarks of pytest-benchmark."""

    path: Path
    records: list[Record] = field(default_factory=list)
    micros: list[Micro] = field(default_factory=list)

    @property
    def form(self) -> str:
        """Which of the two."""
        return "records" if self.records else "benchmarks of pytest-benchmark"

    @property
    def torch(self) -> set[str]:
        """Minor versions of torch that it was measured with."""
        measured = [item.versions for item in self.records]
        measured += [item.versions for item in self.micros]
        found = [versions.get("torch", "unknown") for versions in measured]
        return {".".join(version.split(".")[:2]) for version in found}

    @property
    def protocols(self) -> set[str]:
        """Versions of the protocol that it was measured by."""
        told = {str(micro.machine.get("protocol", "unknown")) for micro in self.micros}
        return told | {record.case.protocol for record in self.records}


def read(path: Path) -> Side:
    """What a path holds; ValueError where that is nothing to compare.

    Of a results folder that has a plan, the cases of the plan count.
    """
    if not path.exists():
        raise ValueError(f"{str(path)!r} does not exist")
    if path.is_dir() and not (path / "records").is_dir():
        return Side(path, micros=micro_results.read(path))
    if path.is_dir():
        records = {file.stem: _record(file) for file in sorted((path / "records").glob("*.json"))}
        planned = {case.key for case in plan.read(path, records).cases}
        kept = [record for key, record in records.items() if key in planned]
        if not kept:
            raise ValueError(f"{str(path)!r} holds no record of its plan")
        return Side(path, kept)
    if "case" in micro_results.content(path):
        return Side(path, [_record(path)])
    return Side(path, micros=micro_results.read(path))


def _record(path: Path) -> Record:
    """A record's file; ValueError where it is none, for a gate must not pass over one."""
    try:
        record = Record.model_validate(micro_results.content(path))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise ValueError(f"{str(path)!r} is no record: {where}: {fault['msg']}") from error
    if record.key != record.case.key:
        own = record.case.key
        raise ValueError(f"{str(path)!r} is no record: its key is {record.key}, its case's {own}")
    return record


def comparable(base: Side, new: Side) -> None:
    """ValueError where two sides cannot be compared at all."""
    if base.form != new.form:
        raise ValueError(
            f"compare like with like: {str(base.path)!r} holds {base.form}, "
            f"{str(new.path)!r} {new.form}"
        )
    aspects: dict[str, Callable[[Side], set[str]]] = {
        "protocol": lambda side: side.protocols,
        "torch": lambda side: side.torch,
    }
    for what, of in aspects.items():
        old, now = (", ".join(sorted(of(side))) for side in (base, new))
        if old != now or "," in old:
            raise ValueError(
                f"cannot compare {str(base.path)!r} and {str(new.path)!r}: {what} {old} against "
                f"{now}; renew the baseline (flowgauge run ci, flowgauge baseline update)"
            )


def entries(base: Side, new: Side) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """The cases of both sides by what they have in common, with labels that tell them apart.

    Neither the number of threads nor the seconds that were spent on timing tell a case of one side
    from that of the other, unless a side has both.
    """
    if base.micros:
        found = [{m.name: _benchmark(m) for m in side.micros} for side in (base, new)]
        return found[0], found[1]
    plain = all(
        max(Counter(_plain(r.case).key for r in s.records).values()) == 1 for s in (base, new)
    )
    sides = [
        [(_plain(r.case) if plain else r.case, r) for r in side.records] for side in (base, new)
    ]
    cases = {case.key: case for side in sides for case, _ in side}
    seedless = {key: _seedless(case) for key, case in cases.items()}
    told = labels(cases.values())
    groups = labels({case.key: case for case in seedless.values()}.values())
    before, after = (
        {c.key: _entry(r, told[c.key], groups[seedless[c.key].key]) for c, r in side}
        for side in sides
    )
    return before, after


def _plain(case: Case) -> Case:
    settings = {name: value for name, value in case.settings.items() if name != "seconds"}
    return Case(**{**case.model_dump(), "threads": 1, "settings": settings})


def _seedless(case: Case) -> Case:
    return Case(**{**case.model_dump(), "seeds": {"data": case.seeds.data}})


def _entry(record: Record, label: str, group: str) -> Entry:
    case, seeds = record.case, record.case.seeds
    metrics: Mapping[str, Values] = record.metrics
    if _adaptive(case):
        metrics = {
            name: m if name == "parameters" or name.startswith(ONCE) else _inexact(m)
            for name, m in metrics.items()
        }
    seed = f"{seeds.init} {seeds.noise} {seeds.batches}"
    place = _place({"threads": case.threads, **record.machine})
    return Entry(label, group, seed, record.status, record.reason, metrics, place)


def _benchmark(micro: Micro) -> Entry:
    threads = micro.information.get("threads", micro.machine.get("threads"))
    place = _place({**micro.machine, "threads": threads})
    return Entry(micro.name, micro.name, "0", "done", "", micro.metrics, place)


def _adaptive(case: Case) -> bool:
    """Whether the data decide how often the case's field is evaluated."""
    if case.device == "meta":  # one evaluation is counted
        return False
    solver = case.options.get("solver")
    if isinstance(solver, Mapping):
        return solver.get("method", "dopri5") not in FIXED
    return not {"rtol", "atol"}.isdisjoint(case.options)


def _inexact(metric: Values) -> Values:
    return metric.model_copy(update={"kind": "quality"}) if metric.kind == "exact" else metric


def _place(machine: Mapping[str, Any]) -> str:
    """The class of a machine and the number of threads; empty where a record does not say it."""
    cpu = machine.get("cpu", "")
    if isinstance(cpu, Mapping):  # pytest-benchmark's own
        machine = {**machine, "cores": cpu.get("count")}
        cpu = cpu.get("brand_raw", "")
    facts: Iterable[Any] = (cpu, machine.get("gpu"), machine.get("system"))
    told = [str(fact) for fact in facts if fact]
    if not cpu:
        return ""
    return ", ".join([*told, f"{machine.get('cores')} cores, {machine.get('threads')} threads"])
