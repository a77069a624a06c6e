"""The committed baseline, and the guard of declared versions that rests on it.

Behaviour, not text, decides what makes records stale. A suite that counts operators gives figures
that depend on neither clock nor chance: exact counts, operators that torch dispatched, qualities of
short trainings in float64 and figures of arrays. They may move only together with a declared
version, operators alone only with a pace or a version. The baseline holds one set of figures for
each case and each set of versions. Its parts are never rewritten: a renewal adds the records whose
versions were raised.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from benchmarks.core import store
from benchmarks.core.formats import number
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import labels
from benchmarks.core.record import Declared, Record
from benchmarks.gate import sources
from benchmarks.gate.verdict import Comparison
from benchmarks.measure.machine import git
from benchmarks.measure.operations import ARRAYS, OPERATORS

RELATIVE, ABSOLUTE = 1e-8, 1e-12  # within which figures are equal: machines round differently
CLASSIFIED = 0.05  # the same of a classifier's accuracy, which a rounding of its input may flip
DISCRETE = ("told_apart", "told_apart_se", "told_apart_floor")
LOGARITHMIC = "nats"  # metrics of this unit change by a difference, all others by a ratio
LONGEST = 6  # figures, or operators, that a message names
RENEW = "renew the baseline: flowgauge baseline update RESULTS, once its suite has run again"
Guarded = tuple[str, Record, Record]  # a label, the baseline's record of a case, and the new one


def renew(folder: Path, target: Path) -> int:
    """Add the new records of a results folder to the baseline ``target``; return their number.

    New cases that failed are kept as such. ValueError if ``folder`` is not a whole results folder
    or mixes what cannot be compared; if it shares no case with the baseline; if a case fails that
    was measured before; and if figures moved and no version was raised.
    """
    source = sources.read(folder, whole=True)
    sources.check_comparable(source, source)
    fresh = {record.key: record for record in source.records}
    before = store.read(target) if store.is_folder(target) else {}
    if before and not before.keys() & fresh.keys():
        raise ValueError(
            f"{str(folder)!r} shares no case with the baseline in {str(target)!r}: give the "
            "results of its suite, or another --target"
        )
    names = labels(record.case for record in fresh.values())
    for key, record in fresh.items():
        if key in before and (fault := refusal(before[key], record)):
            raise ValueError(f"{names[record.case.key]}: {fault}")
    new = [
        _without_times(record)
        for key, record in fresh.items()
        if key not in before or raised(before[key], record)
    ]
    if fault := next(contradictions([*store.history(target), *new]), ""):
        raise ValueError(f"{fault}: raise a version once more")
    target.mkdir(parents=True, exist_ok=True)
    if new:
        store.write_part(target, [(record, {}) for record in new])
    if (path := folder / "suite.json").is_file():
        store.replace(target / "suite.json", path.read_bytes())
    return len(new)


def _without_times(record: Record) -> Record:
    """A record without what a clock or the machine decided."""
    metrics = {name: m for name, m in record.metrics.items() if m.kind != "time"}
    notes = {name: record.notes[name] for name in (OPERATORS, ARRAYS) if name in record.notes}
    blank = {"metrics": metrics, "notes": notes, "arrays": {}, "machine": {}}
    return record.model_copy(update=blank | dict.fromkeys(("seconds", "shared", "block"))).sealed()


def faults(target: Path, base: str | None = None) -> Iterator[str]:
    """Find contradictions in a baseline, and parts that differ from those of a base commit.

    ValueError if ``base`` is not a commit of the repository that holds the baseline.
    """
    yield from contradictions(store.history(target))
    listing = git(target, "ls-tree", "-r", f"{base}^{{commit}}", "--", ".") if base else ""
    for about, _, name in (line.partition("\t") for line in listing.splitlines()):
        path = target / Path(name).name
        if path.suffix == ".parquet" and not path.is_file():
            yield f"{path.name} of {base} is missing: a part of the baseline is never removed"
        elif path.suffix == ".parquet" and git(target, "hash-object", path.name) not in about:
            yield f"{path.name} differs from {base}: a part of the baseline is never rewritten"


def contradictions(history: Iterable[Record]) -> Iterator[str]:
    """Find cases whose records of one set of versions have two sets of figures."""
    first: dict[tuple[str, tuple[tuple[str, Declared], ...]], Record] = {}
    for record in history:
        versions = (record.key, tuple(sorted(record.declared.items())))
        if names := moved(first.setdefault(versions, record), record):
            yield (
                f"{record.case.label} ({record.key}) has two sets of figures at one set of "
                f"versions: {_shortened(names)}"
            )


def is_guarded(record: Record | None) -> TypeGuard[Record]:
    """Whether a record has the figures that the guard compares."""
    return record is not None and record.status == "done" and OPERATORS in record.notes


def moved(before: Record, after: Record) -> list[str]:
    """Names of the figures that differ between two records of a case, `OPERATORS` among them."""
    if before.status != after.status:
        return ["status"]
    old, new = _figures(before), _figures(after)
    names = [n for n in {**old, **new} if not _equal(n, old.get(n), new.get(n))]
    return names + [OPERATORS] * (before.notes.get(OPERATORS) != after.notes.get(OPERATORS))


def raised(before: Record, after: Record) -> dict[str, tuple[Declared, Declared]]:
    """Dependencies of a case whose version or pace differs, by name: before and after."""
    names = dict.fromkeys((*before.declared, *after.declared))
    sides = [{n: record.declared.get(n, Declared()) for n in names} for record in (before, after)]
    return {n: (sides[0][n], sides[1][n]) for n in names if sides[0][n] != sides[1][n]}


def refusal(before: Record, after: Record) -> str:
    """Why a record may not take the place of another of its case; empty if it may."""
    if before.status == "done" and after.status != "done":
        remedy = "mend what fails, or take the case out of the suite"
        return f"measured before, {after.status} now ({after.reason}): {remedy}"
    names, changes = moved(before, after), raised(before, after)
    versions = [name for name, (old, new) in changes.items() if old.version != new.version]
    if {*names} - {OPERATORS} and not versions:
        return f"figures moved and no version was raised: raise that of {_choices(after)}"
    if names and not changes:
        return (
            "the operators that torch dispatches moved and neither pace nor version was raised: "
            f"raise the pace of {_choices(after)}"
        )
    return ""


def judge(pairs: Iterable[Guarded]) -> Iterator[Comparison]:
    """Compare the figures of each case: any that moved fails, and so does a raised version."""
    for label, before, after in pairs:
        names, changes = moved(before, after), raised(before, after)
        if not names and not changes:
            yield Comparison(label, "", "exact", "stayed")
            continue
        versions = ", ".join(
            f"{name} {old.version}.{old.pace} → {new.version}.{new.pace}"
            for name, (old, new) in changes.items()
        )
        metric, change = _shortened(names), "; ".join(_differences(names, before, after))
        what = f"moved: {metric}" if names else "no figure moved"
        note = refusal(before, after) or f"{versions}; {what}; {RENEW}"
        yield Comparison(label, metric, "exact", "moved", fails=True, change=change, note=note)


def movers(pairs: Iterable[Guarded]) -> dict[str, list[str]]:
    """For each version or pace that was raised, the cases whose figures or operators moved."""
    cases: dict[str, list[str]] = {}
    for label, before, after in pairs:
        for name in raised(before, after):
            cases.setdefault(name, []).extend([label] if moved(before, after) else [])
    return cases


def _figures(record: Record) -> dict[str, tuple[float, ...]]:
    """The figures of a record that no clock decides, by name."""
    metrics = {n: values.values for n, values in record.metrics.items() if values.kind != "time"}
    arrays: Mapping[str, Sequence[float]] = record.notes.get(ARRAYS, {})
    return metrics | {f"array {name}": tuple(values) for name, values in arrays.items()}


def _equal(name: str, old: Sequence[float] | None, new: Sequence[float] | None) -> bool:
    if old is None or new is None or len(old) != len(new):
        return False
    relative, absolute = (0.0, CLASSIFIED) if name in DISCRETE else (RELATIVE, ABSOLUTE)
    return all(
        (a != a and b != b) or math.isclose(a, b, rel_tol=relative, abs_tol=absolute)
        for a, b in zip(old, new, strict=True)
    )


def _differences(names: Sequence[str], before: Record, after: Record) -> Iterator[str]:
    """Old and new value of each figure that is named, and numbers of calls of operators."""
    if before.status != after.status:
        yield f"{before.status} → {after.status}"
        return
    sides = _figures(before), _figures(after)
    for name in [name for name in names if name != OPERATORS][:LONGEST]:
        old, new = (statistics.median(side.get(name) or [math.nan]) for side in sides)
        change, text = new - old, f" ({number(new - old, '+.3g')})"
        if name not in METRICS or METRICS[name].unit != LOGARITHMIC:
            change = 100 * (new / old - 1) if old else math.nan
            text = f" ({number(change, '+.2f' if abs(change) >= 0.01 else '+.1e')} %)"
        text = text if math.isfinite(change) else ""
        yield f"{name} {number(old, ',.10g')} → {number(new, ',.10g')}{text}"
    if OPERATORS in names:
        old, new = (record.notes.get(OPERATORS, {}) for record in (before, after))
        calls = [n for n in {**old, **new} if old.get(n) != new.get(n)][:LONGEST]
        yield f"operators {', '.join(f'{n} {old.get(n, 0)} → {new.get(n, 0)}' for n in calls)}"


def _shortened(names: Sequence[str]) -> str:
    """Names of figures, cut if there are many, and the operators last."""
    figures = [name for name in names if name != OPERATORS]
    shortened = [*figures[:LONGEST], *["…"] * (len(figures) > LONGEST)]
    return ", ".join([*shortened, *[OPERATORS] * (OPERATORS in names)])


def _choices(record: Record) -> str:
    """What may have to be raised; for the case of a plug-in, what the plug-in registers."""
    members = {"flow": record.case.flow, "data": record.case.dataset}
    plugin = [f"{kind} {members[kind]}" for kind in record.plugins if kind in members]
    return " or ".join(plugin or record.declared)
