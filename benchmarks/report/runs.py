"""Results folders for a report: plans, records, which of them are current, and facts of them."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.core import frame as frames
from benchmarks.core import store
from benchmarks.core.formats import brief
from benchmarks.core.naming import counted, duration, undigested
from benchmarks.core.record import Record, Standing
from benchmarks.measure.process import Child, ChildError

BASELINE = "baseline"  # the gate's folder: the suite ci, which nobody cites
MAIN = ("torch", "torchdiffeq", "nflows")  # the subject's own packages, named at the top
DOUBTS = ("Noise", "Caution")  # facts that warn of numbers, where there are any
Facts = dict[str, tuple[str, ...]]  # terms, and what there is to say about each, a line each
ALWAYS = ("done", "failed", "missing")  # states of which a report has the number, be it 0
STATES = ("done", "stale", "stale in times", "failed", "timeout", "skipped", "missing")


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
    """The cases of a plan with their records.

    Keys are those of the records, after the label where a report has several runs.
    """

    label: str
    folder: Path
    plan: frames.Plan
    records: Mapping[str, Record]
    states: tuple[CaseState, ...]
    frame: pd.DataFrame  # with times of one place alone
    place: str  # machine class and torch, "" of no times
    note: str  # on times that are left out
    cautions: Mapping[str, str]  # why a record's times are not to be quoted, by key
    outside: int  # records that stand in no plan
    unchecked: str = ""  # how many records could not be checked, and why

    @property
    def stale(self) -> list[str]:
        """The keys of records whose counts and qualities are stale."""
        return [case.key for case in self.states if case.state == "stale"]

    @property
    def counts(self) -> Counter[str]:
        return Counter(case.state for case in self.states)


def read(folders: Sequence[Path]) -> list[Run]:
    """Results folders, named apart; ValueError for one that is none or is given twice."""
    names = frames.labels(folders)
    return [_read(path, name, len(names) > 1) for path, name in zip(folders, names, strict=True)]


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
    records = store.read(store.existing(folder), whole=True)
    plan = frames.plan_of(folder, records)
    planned_records = {c.key: records[c.key] for c in plan.cases if c.key in records}
    prefix = f"{label}/" if several else ""
    now = standings(planned_records)
    current = {prefix + key: now.get(key, Standing()) for key in planned_records}
    by_key = {prefix + key: record for key, record in planned_records.items()}
    frame = frames.long_frame(folder, planned_records, plan, label)
    reasons: dict[str, str] = {}
    place = ""
    if len(frame):
        frame["key"] = prefix + frame["key"]
        timed = frames.places(frame)
        rows = frame[timed.notna()]
        pairs = zip(rows["key"], frames.cautions(rows), strict=True)
        reasons = {key: text for key, noisy in pairs if (text := current[key].times or noisy)}
        place = next(iter(timed.value_counts().index), "")
    frame, note = frames.of_one_place(frame)
    states = tuple(_states(plan, by_key, current, prefix))
    outside = len(records) - len(planned_records)
    doubts = not_checked(now.unchecked for now in current.values()), undigested(by_key.values())
    unchecked = "; ".join(filter(None, doubts))
    return Run(label, folder, plan, by_key, states, frame, place, note, reasons, outside, unchecked)


def standings(records: Mapping[str, Record]) -> dict[str, Standing]:
    """Which records the present code would measure alike, by key.

    Only the code itself can say. It is asked in a process of its own where this one has not
    imported it, so that a report needs no torch.
    """
    if "torch" in sys.modules:
        return _by_code(records)
    try:
        with Child() as child:
            return dict(child.call(_by_code, records, timeout=None))
    except (ChildError, ValueError) as error:
        return dict.fromkeys(records, Standing(unchecked=brief(error)))


def _by_code(records: Mapping[str, Record]) -> dict[str, Standing]:
    from benchmarks.datasets.tables import admit
    from benchmarks.execution.versions import standing

    for record in records.values():
        admit(record.case.dataset or "")
    return {key: standing(record) for key, record in records.items()}


def not_checked(faults: Iterable[str]) -> str:
    """How many records count as current without a check, and why; empty where there are none.

    ``faults`` are why each record was not checked, empty for one that was.
    """
    reasons = Counter(filter(None, faults))
    number = counted(reasons.total(), "record")
    return f"{number} could not be checked: {'; '.join(reasons)}" if reasons else ""


def _states(
    plan: frames.Plan, records: Mapping[str, Record], standings: Mapping[str, Standing], prefix: str
) -> Iterator[CaseState]:
    once: dict[str, frames.Planned] = {}
    for case in plan.cases:
        once.setdefault(case.key, case)
    for case in once.values():
        key = prefix + case.key
        record = records.get(key)
        label = case.label or (record.case.label if record else "")
        state, reason = (record.status, record.reason) if record else ("missing", "not measured")
        if record and (moved := standings[key].reason):
            if state == "done":  # what failed has no numbers to be old
                state = "stale" if standings[key].counts else "stale in times"
            reason = "; ".join(filter(None, [reason, moved]))
        yield CaseState(key, case.study, label.removeprefix(f"{case.study} "), state, reason)


def header(run: Run) -> Facts:
    """The few facts that a report opens with."""
    records = list(run.records.values())
    adapted = {record.case.flow.partition("_")[0] for record in records}  # zuko_maf: zuko's
    versions = [line for line in _versions(records) if line.split()[0].lower() in {*MAIN, *adapted}]
    python = [f"Python {v}" for v in _distinct(r.machine.get("python") for r in records)]
    counts, reasons = run.counts, Counter(run.cautions.values())
    present = [state for state in STATES if counts[state] or state in ALWAYS]
    scope = f"of {len(records)} records are not to be quoted"
    cautioned = [f"times of {count} {scope}: {why}" for why, count in reasons.items()]
    lines = {
        "Cases": [", ".join(f"{counts[state]} {state}" for state in present)],
        "Machine": _distinct(_machine(r.machine) for r in records),
        "Threads": [_threads(records)],
        "Software": [", ".join(versions + python)],
        "Measured": [_when(records)],
        "Noise": noise(records)[1:],
        "Caution": [*cautioned, run.unchecked],
    }
    return _facts({term: of for term, of in lines.items() if any(of) or term not in DOUBTS})


def provenance(records: Sequence[Record], outside: int) -> Facts:
    """Everything else that a number depends on; ``outside`` records stand in no plan."""
    beyond = f", and {outside} outside of the plan, not shown" if outside else ""
    lines = {
        "Commit": _distinct(r.commit for r in records),
        "Code": _fingerprints(records),
        "Measurement protocol": _distinct(r.case.protocol for r in records),
        "Seeds": [_seeds(records)],
        "Threads": [_threads(records)],
        "Arithmetic": _distinct(f"{r.case.dtype} on {r.case.device}" for r in records),
        "Packages": [", ".join(_versions(records))],
        "Machine": _distinct(_machine(r.machine) for r in records),
        "Python": _distinct(r.machine.get("python") for r in records),
        "BLAS": _distinct(r.machine.get("blas") for r in records),
        "Governor": _distinct(r.machine.get("governor") for r in records),
        "Load": [_load(records)],
        "Noise": noise(records),
        "Records": [f"{len(records)}{beyond}"],
    }
    return _facts(lines)


def beside(runs: Mapping[str, Facts]) -> Facts:
    """The facts of runs as those of one: a line for each run where they differ."""
    merged = {}
    for term in dict.fromkeys(term for facts in runs.values() for term in facts):
        lines = {run: facts[term] for run, facts in runs.items() if term in facts}
        same = len(lines) == len(runs) and len(set(lines.values())) == 1
        entries = tuple(f"{run}: {'; '.join(texts)}" for run, texts in lines.items())
        merged[term] = next(iter(lines.values())) if same else entries
    return merged


def _flat(value: Any) -> str:
    """A JSON value on one line, without brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_flat(part) for part in value)
    return "" if value is None else str(value)


def _facts(lines: Mapping[str, Iterable[str]]) -> Facts:
    return {term: tuple(filter(None, of)) or ("not recorded",) for term, of in lines.items()}


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(text for text in map(_flat, values) if text))


def _machine(machine: dict[str, Any]) -> str:
    """One line: processor, cores, memory, system; whatever of them is known."""
    parts = [frames.processor(machine)]
    if (cores := machine.get("cores")) is not None:
        parts.append(f"{_flat(cores)} {'core' if cores == 1 else 'cores'}")
    if isinstance(memory := machine.get("memory_bytes"), int | float):
        parts.append(f"{memory / 2**30:.1f} GiB")
    parts += [_flat(machine.get("gpu")), _flat(machine.get("system"))]
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
    days = sorted(record.started[:10] for record in records if record.started)
    if not days:
        return ""
    seconds = sum(max(record.seconds or 0.0, 0.0) for record in records)
    span = " to ".join(dict.fromkeys((days[0], days[-1])))
    return f"{span}, {duration(seconds)} of measuring"


def _fingerprints(records: Sequence[Record]) -> list[str]:
    """Of each study, whether records of one flow and data set are of several versions."""
    marks: dict[str, dict[tuple[str, str | None], set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        marks[record.case.study][record.case.flow, record.case.dataset].add(record.fingerprint)
    lines = []
    for study, pairs in sorted(marks.items()):
        several = sum(len(alike) > 1 for alike in pairs.values())
        which = f"{several} of {len(pairs)} pairs of flow and data" if several else "each flow"
        count = "several versions" if several else "one version"
        lines.append(f"{study}: {which} measured with {count} of the code")
    return lines


def _seeds(records: Sequence[Record]) -> str:
    seeds = pd.DataFrame([record.case.seeds.model_dump() for record in records])
    return "; ".join(f"{k} {', '.join(map(str, sorted(set(v))))}" for k, v in seeds.items())


def _load(records: Sequence[Record]) -> str:
    loads = [record.machine.get("load") for record in records]
    firsts = [load[0] if isinstance(load, list) and load else load for load in loads]
    values = [float(load) for load in firsts if isinstance(load, int | float)]
    return f"median {median(values):.2f}, highest {max(values):.2f}" if values else ""


def noise(records: Sequence[Record]) -> list[str]:
    """The spread of the reference workload's times over blocks of cases measured together.

    Two lines where it was too large, the second a warning.
    """
    blocks: dict[str, tuple[float, str]] = {}
    for record in records:
        times = record.metrics.get(frames.REFERENCE)
        if times and len(times.values) > 1:
            scatter = (frames.spread(times.values), record.case.label)
            block = record.block or record.key
            blocks[block] = max(scatter, blocks.get(block, scatter))
    if not blocks:
        return []
    spreads = sorted(blocks.values())
    worst, label = spreads[-1]
    middle = median(spread for spread, _ in spreads)
    text = f"median {middle:.1%} over the blocks, largest {worst:.1%} in that of {label}"
    lines = [f"middle half of the reference workload's times over their median: {text}"]
    if worst > frames.NOISY:
        noisy = sum(spread > frames.NOISY for spread, _ in spreads)
        share = f"{noisy} of {len(spreads)} blocks"
        lines.append(f"the machine was too noisy for times to be trusted in {share}, as in {label}")
    return lines


def _threads(records: Sequence[Record]) -> str:
    return ", ".join(str(n) for n in sorted({record.case.threads for record in records}))
