"""The committed baseline, and the guard of declared versions that rests on it.

Behaviour, not text, decides what makes records stale. A suite that counts operators gives figures
that depend on neither clock nor chance: exact counts, operators that torch dispatched, qualities of
short trainings in float64 and figures of arrays. They may move only together with a declared
version, operators alone only with a pace or a version. The baseline holds one set of figures for
each case and each set of versions. Its parts are never rewritten: a renewal adds the records whose
versions were raised.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from benchmarks.core import locks, store
from benchmarks.core.formats import number
from benchmarks.core.metrics import METRICS
from benchmarks.core.naming import counted, labels
from benchmarks.core.record import Declared, Record
from benchmarks.gate import sources
from benchmarks.gate.verdict import Comparison
from benchmarks.measure.machine import git
from benchmarks.measure.operations import ARRAYS, OPERATORS

RELATIVE, ABSOLUTE = 1e-8, 1e-12  # within which figures are equal: machines round differently
CLASSIFIED = 0.05  # the same of a classifier's accuracy, which a rounding of its input may flip
DISCRETE = ("told_apart", "told_apart_se", "told_apart_floor")
LOGARITHMIC = "nats"  # metrics of this unit change by a difference, all others by a ratio
LONGEST = 3  # figures that a message names
COSTS = ("FLOP", "NFE", "op", "B", "")  # units of what a call costs, in the order they are named
COUNTS = ("validation_flops", "nfe")  # arrays of the same
NAMED, SUBJECTS = 2, 3  # costs of a flow, and flows, that the headlines name
RENEW = "run the suite again and renew the baseline: flowgauge baseline update RESULTS"
MEND = "mend what was not meant, it is a regression"
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
    with locks.held(target):
        before = store.read(target)
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
        if new:
            store.write_part(target, [(record, {}) for record in new])
        if (path := folder / "suite.json").is_file():
            store.replace(target / "suite.json", path.read_bytes())
    return len(new)


def _without_times(record: Record) -> Record:
    """A record without what a clock or the machine decided."""
    metrics = {name: m for name, m in record.metrics.items() if m.metric.kind != "time"}
    notes = {name: record.notes[name] for name in (OPERATORS, ARRAYS) if name in record.notes}
    blank = {"metrics": metrics, "notes": notes, "arrays": {}, "machine": {}}
    return record.model_copy(update=blank | dict.fromkeys(("seconds", "shared", "block"))).sealed()


def faults(target: Path, base: str | None = None) -> Iterator[str]:
    """Find contradictions in a baseline, and parts that differ from those of a base commit.

    ValueError if ``base`` is not a commit of the repository that holds the baseline.
    """
    for path in store.gone(target):
        yield f"{path.name} is gone: a part of the baseline is never removed"
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
    fault, remedy = _fault(before, after)
    return f"{fault}: {MEND}; if it was meant, {remedy}" if fault else ""


def _fault(before: Record, after: Record) -> tuple[str, str]:
    """What has moved without a version or pace that was raised, and what to raise; or nothing."""
    names, changes = moved(before, after), raised(before, after)
    versions = [name for name, (old, new) in changes.items() if old.version != new.version]
    if {*names} - {OPERATORS} and not versions:
        return "figures moved, no version was raised", _raise("version", after)
    if names and not changes:
        fault = "operators of torch moved, neither pace nor version was raised"
        return fault, _raise("pace", after)
    return "", ""


def judge(pairs: Iterable[Guarded]) -> Iterator[Comparison]:
    """Compare the figures of each case: any that moved fails, and so does a raised version."""
    for label, before, after in pairs:
        names, changes = moved(before, after), raised(before, after)
        if not names and not changes:
            yield Comparison(label, "", "exact", "stayed")
            continue
        fault, remedy = _fault(before, after)
        if not fault:
            fault = ", ".join(
                f"{name} {old.version}.{old.pace} → {new.version}.{new.pace}"
                for name, (old, new) in changes.items()
            )
            fault, remedy = f"{fault}; {RENEW}", RENEW
        yield Comparison(
            label,
            _shortened(names),
            "exact",
            "moved",
            fails=True,
            change="; ".join(_differences(names, before, after)),
            note=fault if names else f"no figure moved; {fault}",
            remedy=remedy,
            operators=_operators(before, after),
        )


def headlines(pairs: Iterable[Guarded]) -> Iterator[str]:
    """Say of each flow that moved what it costs now, and which of its values moved."""
    moves: dict[str, list[tuple[list[str], Record, Record]]] = {}
    for _, before, after in pairs:
        if names := moved(before, after):
            subject = before.case.flow or before.case.dataset or before.case.study
            moves.setdefault(str(subject), []).append((names, before, after))
    for subject, cases in list(moves.items())[:SUBJECTS]:
        ratios: dict[str, list[float]] = {}
        for names, before, after in cases:
            old, new = _figures(before), _figures(after)
            for name in [name for name in names if name != OPERATORS]:
                sides = [statistics.median(side.get(name) or [math.nan]) for side in (old, new)]
                ratios.setdefault(name, []).append(sides[1] / sides[0] if sides[0] else math.nan)
        costs = {n: r for n, r in ratios.items() if n in METRICS and METRICS[n].unit in COSTS}
        costs = {n: r for n, r in costs.items() if METRICS[n].unit or METRICS[n].kind == "exact"}
        values = [n for n in ratios if n not in costs and n.removeprefix("array ") not in COUNTS]
        ordered = sorted(costs, key=lambda n: (COSTS.index(METRICS[n].unit), -len(costs[n])))
        factors = ", ".join(_factor(name, costs[name]) for name in ordered[:NAMED])
        share = [ratio > 1 for each in costs.values() for ratio in each]
        more = "more" if all(share) else "less" if not any(share) else "more here and less there"
        price = f"costs {more}: {factors}" if costs else "costs unchanged"
        values.sort(key=lambda name: name.startswith("array "))  # pictures last
        other = f"computes other values, {_shortened(values)}" if values else ""
        what, rest = price, other or "values unchanged"
        if not costs:
            what, rest = (other, price) if other else ("dispatches other operators", "")
        yield "; ".join(filter(None, (f"{subject} {what} in {counted(len(cases), 'case')}", rest)))
    if others := list(moves)[SUBJECTS:]:
        more = " …" * (len(others) > LONGEST)
        yield f"so did {len(others)} more: {', '.join(others[:LONGEST])}{more}"


def _factor(name: str, ratios: Sequence[float]) -> str:
    """By what a cost grew: "log_prob FLOPs × 2.00", the least and the largest where they differ."""
    least, most = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    quantity = METRICS[name].quantity
    title = f"{name.rpartition('_')[0]} {quantity}" if quantity else name
    return f"{title} × {least}" + f" to {most}" * (least != most)


def movers(pairs: Iterable[Guarded]) -> dict[str, list[str]]:
    """For each version or pace that was raised, the cases whose figures or operators moved."""
    cases: dict[str, list[str]] = {}
    for label, before, after in pairs:
        for name in raised(before, after):
            cases.setdefault(name, []).extend([label] if moved(before, after) else [])
    return cases


def _figures(record: Record) -> dict[str, tuple[float, ...]]:
    """The figures of a record that no clock decides, by name."""
    metrics = {n: v.values for n, v in record.metrics.items() if v.metric.kind != "time"}
    arrays: Mapping[str, Sequence[float]] = record.notes.get(ARRAYS, {})
    return metrics | {f"array {name}": tuple(values) for name, values in arrays.items()}


def _equal(name: str, old: Sequence[float] | None, new: Sequence[float] | None) -> bool:
    if old is None or new is None or len(old) != len(new):
        return False
    within = (0.0, CLASSIFIED) if name in DISCRETE else (RELATIVE, ABSOLUTE)
    return all(is_same(a, b, *within) for a, b in zip(old, new, strict=True))


def is_same(old: float, new: float, relative: float = RELATIVE, absolute: float = ABSOLUTE) -> bool:
    """Whether two values are equal but for rounding, or both NaN."""
    return (old != old and new != new) or math.isclose(old, new, rel_tol=relative, abs_tol=absolute)


def _differences(names: Sequence[str], before: Record, after: Record) -> Iterator[str]:
    """Old and new value of each figure that is named, and numbers of calls of operators."""
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
        old, new = (sum(record.notes.get(OPERATORS, {}).values()) for record in (before, after))
        yield f"calls of operators {number(old, ',.0f')} → {number(new, ',.0f')}"


def _operators(before: Record, after: Record) -> str:
    """The operators that one of two records dispatches more often, with the number of calls."""
    old, new = (record.notes.get(OPERATORS, {}) for record in (before, after))
    calls = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {old.get(name, 0)} → {new.get(name, 0)}" for name in calls)


def _shortened(names: Sequence[str]) -> str:
    """Names of figures, cut if there are many, and the operators last."""
    figures = [name for name in names if name != OPERATORS]
    shortened = [*figures[:LONGEST], *["…"] * (len(figures) > LONGEST)]
    return ", ".join([*shortened, *[OPERATORS] * (OPERATORS in names)])


def _raise(what: str, record: Record) -> str:
    """What may have to be raised; for the case of a plug-in, of what the plug-in registers."""
    members = {"flow": record.case.flow, "data": record.case.dataset}
    plugin = [f"{kind} {members[kind]}" for kind in record.plugins if kind in members]
    return f"raise the {what} of {' or '.join(plugin or record.declared)}, then {RENEW}"
