"""What was measured, on what, with what and when: facts read off the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from benchmarks.core.frame import NOISY, REFERENCE, processor, spread
from benchmarks.core.naming import duration
from benchmarks.core.record import Record
from benchmarks.report.runs import Run

MAIN = ("torch", "torchdiffeq", "nflows")  # the subject's own packages, named at the top
DOUBTS = ("Noise", "Caution")  # facts that warn of numbers
STATES = ("done", "stale", "stale in times", "failed", "timeout", "skipped", "missing")


@dataclass(frozen=True)
class Fact:
    """A term and what there is to say about it, a line each."""

    term: str
    lines: tuple[str, ...]


def header(run: Run) -> list[Fact]:
    """The few facts that a report opens with."""
    records = list(run.records.values())
    adapted = {record.case.flow.partition("_")[0] for record in records}  # zuko_maf: zuko's
    versions = [line for line in _versions(records) if line.split()[0].lower() in {*MAIN, *adapted}]
    python = [f"Python {v}" for v in _distinct(r.machine.get("python") for r in records)]
    _, *warning = noise(records) or [""]
    return [
        _fact("Cases", [_counts(run.counts)]),
        _fact("Machine", _distinct(_machine(r.machine) for r in records)),
        _fact("Threads", [_threads(records)]),
        _fact("Software", [", ".join(versions + python)]),
        _fact("Measured", [_when(records)]),
        *([_fact("Noise", warning)] if warning else []),
        *([_fact("Caution", cautions)] if any(cautions := _cautions(run)) else []),
    ]


def provenance(records: Sequence[Record], outside: int) -> list[Fact]:
    """Everything else that a number depends on; ``outside`` records stand in no plan."""
    return [
        _fact("Commit", _distinct(r.commit for r in records)),
        _fact("Code", _fingerprints(records)),
        _fact("Measurement protocol", _distinct(r.case.protocol for r in records)),
        _fact("Seeds", [_seeds(records)]),
        _fact("Threads", [_threads(records)]),
        _fact("Arithmetic", _distinct(f"{r.case.dtype} on {r.case.device}" for r in records)),
        _fact("Packages", [", ".join(_versions(records))]),
        _fact("Machine", _distinct(_machine(r.machine) for r in records)),
        _fact("Python", _distinct(r.machine.get("python") for r in records)),
        _fact("BLAS", _distinct(r.machine.get("blas") for r in records)),
        _fact("Governor", _distinct(r.machine.get("governor") for r in records)),
        _fact("Load", [_load(records)]),
        _fact("Noise", noise(records)),
        _fact(
            "Records",
            [
                f"{len(records)}"
                + (f", and {outside} outside of the plan, not shown" if outside else "")
            ],
        ),
    ]


def beside(runs: Mapping[str, Sequence[Fact]]) -> list[Fact]:
    """The facts of runs as one list: a line for each run where they differ."""
    terms = dict.fromkeys(fact.term for facts in runs.values() for fact in facts)
    merged = []
    for term in terms:
        lines = {
            run: fact.lines for run, facts in runs.items() for fact in facts if fact.term == term
        }
        same = len(lines) == len(runs) and len(set(lines.values())) == 1
        entries = tuple(f"{run}: {'; '.join(texts)}" for run, texts in lines.items())
        merged.append(Fact(term, next(iter(lines.values())) if same else entries))
    return merged


def plain(value: Any) -> str:
    """A JSON value on one line, without brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(part) for part in value)
    return "" if value is None else str(value)


def _fact(term: str, lines: Iterable[str]) -> Fact:
    return Fact(term, tuple(line for line in lines if line) or ("not recorded",))


def _cautions(run: Run) -> list[str]:
    """How many records have times that are not to be quoted, by reason; and are not checked."""
    counts = Counter(run.cautions.values())
    total = len(run.records)
    lines = [
        f"times of {count} of {total} records are not to be quoted: {why}"
        for why, count in counts.items()
    ]
    return [*lines, run.unchecked]


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(text for text in map(plain, values) if text))


def _counts(counts: Mapping[str, int]) -> str:
    always = ("done", "failed", "missing")
    present = [state for state in STATES if counts.get(state) or state in always]
    return ", ".join(f"{counts.get(state, 0)} {state}" for state in present)


def _machine(machine: dict[str, Any]) -> str:
    """One line: processor, cores, memory, system; whatever of them is known."""
    parts = [processor(machine)]
    if (cores := machine.get("cores")) is not None:
        parts.append(f"{plain(cores)} {'core' if cores == 1 else 'cores'}")
    if isinstance(memory := machine.get("memory_bytes"), int | float):
        parts.append(f"{memory / 2**30:.1f} GiB")
    parts += [plain(machine.get("gpu")), plain(machine.get("system"))]
    return ", ".join(part for part in parts if part)


def _versions(records: Sequence[Record]) -> list[str]:
    """Each package with its version, the subject's own first; several where records differ."""
    packages: dict[str, dict[str, None]] = {}
    for record in records:
        for package, version in record.versions.items():
            packages.setdefault(package, {})[version] = None
    order = sorted(packages, key=lambda p: (MAIN.index(p) if p in MAIN else len(MAIN), p.lower()))
    return [f"{package} {' and '.join(packages[package])}" for package in order]


def _when(records: Sequence[Record]) -> str:
    days = sorted(filter(None, (_day(record.started) for record in records)))
    if not days:
        return ""
    seconds = sum(max(record.seconds or 0.0, 0.0) for record in records)
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return f"{span}, {duration(seconds)} of measuring"


def _day(started: str) -> str:
    try:
        return datetime.fromisoformat(started).date().isoformat()
    except ValueError:
        return ""


def _fingerprints(records: Sequence[Record]) -> list[str]:
    """Of each study, whether records of one flow and data set are of several versions."""
    lines = []
    for study in sorted({record.case.study for record in records}):
        marks: dict[tuple[str, str | None], set[str]] = {}
        for record in records:
            if record.case.study == study:
                alike = marks.setdefault((record.case.flow, record.case.dataset), set())
                alike.add(record.fingerprint)
        several = sum(len(alike) > 1 for alike in marks.values())
        text = f"{several} of {len(marks)} pairs of flow and data" if several else "each flow"
        count = "several versions" if several else "one version"
        lines.append(f"{study}: {text} measured with {count} of the code")
    return lines


def _seeds(records: Sequence[Record]) -> str:
    streams: dict[str, set[int]] = {}
    for record in records:
        for stream, seed in record.case.seeds.model_dump().items():
            streams.setdefault(stream, set()).add(seed)
    return "; ".join(f"{k} {', '.join(map(str, sorted(v)))}" for k, v in streams.items())


def _load(records: Sequence[Record]) -> str:
    loads = [record.machine.get("load") for record in records]
    firsts = [load[0] if isinstance(load, list) and load else load for load in loads]
    known = [float(load) for load in firsts if isinstance(load, int | float)]
    return f"median {median(known):.2f}, highest {max(known):.2f}" if known else ""


def noise(records: Sequence[Record]) -> list[str]:
    """The spread of the reference workload's times over blocks of cases measured together.

    Two lines where it was too large, the second a warning.
    """
    blocks: dict[str, tuple[float, str]] = {}
    for record in records:
        times = record.metrics.get(REFERENCE)
        if times and len(times.values) > 1:
            scatter = (spread(times.values), record.case.label)
            block = record.block or record.key
            blocks[block] = max(scatter, blocks.get(block, scatter))
    if not blocks:
        return []
    spreads = sorted(blocks.values())
    worst, label = spreads[-1]
    middle = median(spread for spread, _ in spreads)
    text = f"median {middle:.1%} over the blocks, largest {worst:.1%} in that of {label}"
    lines = [f"middle half of the reference workload's times over their median: {text}"]
    if worst > NOISY:
        noisy = sum(spread > NOISY for spread, _ in spreads)
        share = f"{noisy} of {len(spreads)} blocks"
        lines.append(f"the machine was too noisy for times to be trusted in {share}, as in {label}")
    return lines


def _threads(records: Sequence[Record]) -> str:
    return ", ".join(str(n) for n in sorted({record.case.threads for record in records}))
