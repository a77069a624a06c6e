"""The guard of declared versions: behaviour, not text, decides what makes records stale.

A suite that counts operators gives figures that depend on neither clock nor chance: exact counts,
operators that torch dispatched, qualities of short trainings in float64 and figures of arrays. They
may move only together with a declared version, operators alone only with a pace or a version. A
baseline holds one set of figures for each case and each set of versions, for ever.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.core.formats import number
from benchmarks.core.metrics import METRICS
from benchmarks.core.record import Record
from benchmarks.gate.changes import LOGARITHMIC
from benchmarks.gate.comparison import Comparison
from benchmarks.measure.operations import ARRAYS, OPERATORS
from flows.registry import Declared

RELATIVE, ABSOLUTE = 1e-8, 1e-12  # within which figures are equal: other machines round otherwise
CLASSIFIED = 0.05  # the same of a classifier's accuracy, which a rounding of its input may flip
DISCRETE = ("told_apart", "told_apart_se", "told_apart_floor")
NAMED = 6  # of the figures that moved, or of the operators
MEND = "mend what fails, or take the case out of the suite"
RENEW = "renew the baseline: flowgauge baseline update RESULTS, once its suite has run again"


@dataclass(frozen=True)
class Move:
    """What moved of a case: names of figures, and whether its operators did."""

    figures: tuple[str, ...]
    operators: bool

    def __bool__(self) -> bool:
        return bool(self.figures) or self.operators


def guarded(record: Record) -> bool:
    """Whether a record has the figures that the guard compares."""
    return record.status == "done" and OPERATORS in record.notes


def move(before: Record, after: Record) -> Move:
    """What moved from one record of a case to another, or from a failure to the other."""
    if before.status != after.status:
        return Move(("status",), False)
    old, new = figures(before), figures(after)
    names = [n for n in {**old, **new} if not _equal(n, old.get(n), new.get(n))]
    operators = before.notes.get(OPERATORS) != after.notes.get(OPERATORS)
    return Move(tuple(names), operators)


def figures(record: Record) -> dict[str, tuple[float, ...]]:
    """The figures of a record that no clock decides, by name."""
    metrics = {n: values.values for n, values in record.metrics.items() if values.kind != "time"}
    arrays: Mapping[str, Sequence[float]] = record.notes.get(ARRAYS, {})
    return metrics | {f"array {name}": tuple(values) for name, values in arrays.items()}


def raised(before: Record, after: Record) -> dict[str, tuple[Declared, Declared]]:
    """What a case depends on whose version or pace differs, by name: before and after."""
    names = dict.fromkeys((*before.declared, *after.declared))
    sides = [{n: record.declared.get(n, Declared()) for n in names} for record in (before, after)]
    return {n: (sides[0][n], sides[1][n]) for n in names if sides[0][n] != sides[1][n]}


def judge(pairs: Iterable[tuple[str, Record, Record]]) -> Iterator[Comparison]:
    """A comparison of each case, given as label, baseline's record and present one."""
    for label, before, after in pairs:
        moved, changes = move(before, after), raised(before, after)
        if not moved and not changes:
            yield Comparison(label, "", "exact", "stayed")
            continue
        note = refusal(before, after)
        if not note:
            what = f"moved: {_names(moved)}" if moved else "no figure moved"
            note = f"{_versions(changes)}; {what}; {RENEW}"
        change = "; ".join(_differences(moved, before, after))
        yield Comparison(
            label, _names(moved), "exact", "moved", fails=True, change=change, note=note
        )


def refusal(before: Record, after: Record) -> str:
    """Why a record may not take the place of another of its case; empty where it may."""
    if before.status == "done" and after.status != "done":
        return f"measured before, {after.status} now ({after.reason}): {MEND}"
    moved, changes = move(before, after), raised(before, after)
    versions = [name for name, (old, new) in changes.items() if old.version != new.version]
    if moved.figures and not versions:
        return f"figures moved and no version was raised: raise that of {_choices(after)}"
    if moved.operators and not changes:
        return (
            "the operators that torch dispatches moved and neither pace nor version was raised: "
            f"raise the pace of {_choices(after)}"
        )
    return ""


def contradictions(history: Iterable[Record]) -> Iterator[str]:
    """Cases of which one set of versions has two sets of figures, in the order of a baseline."""
    first: dict[tuple[str, tuple[tuple[str, Declared], ...]], Record] = {}
    for record in history:
        versions = (record.key, tuple(sorted(record.declared.items())))
        if moved := move(first.setdefault(versions, record), record):
            yield (
                f"{record.case.label} ({record.key}) has two sets of figures at one set of "
                f"versions: {_names(moved)}"
            )


def movers(pairs: Iterable[tuple[str, Record, Record]]) -> dict[str, list[str]]:
    """By each version or pace that was raised the cases whose figures or operators moved."""
    cases: dict[str, list[str]] = {}
    for label, before, after in pairs:
        for name in raised(before, after):
            moved = cases.setdefault(name, [])
            if move(before, after):
                moved.append(label)
    return cases


def _equal(name: str, old: Sequence[float] | None, new: Sequence[float] | None) -> bool:
    if old is None or new is None or len(old) != len(new):
        return False
    relative, absolute = (0.0, CLASSIFIED) if name in DISCRETE else (RELATIVE, ABSOLUTE)
    return all(
        (a != a and b != b) or math.isclose(a, b, rel_tol=relative, abs_tol=absolute)
        for a, b in zip(old, new, strict=True)
    )


def _differences(moved: Move, before: Record, after: Record) -> Iterator[str]:
    """Old and new value of each figure that is named, and operators with their numbers of calls."""
    if before.status != after.status:
        yield f"{before.status} → {after.status}"
        return
    sides = figures(before), figures(after)
    for name in moved.figures[:NAMED]:
        old, new = (_median(side.get(name)) for side in sides)
        yield f"{name} {number(old, ',.10g')} → {number(new, ',.10g')}{_change(name, old, new)}"
    if moved.operators:
        calls = [before.notes.get(OPERATORS, {}), after.notes.get(OPERATORS, {})]
        names = [n for n in {**calls[0], **calls[1]} if calls[0].get(n) != calls[1].get(n)]
        counts = (f"{n} {calls[0].get(n, 0)} → {calls[1].get(n, 0)}" for n in names[:NAMED])
        yield f"operators {', '.join(counts)}"


def _change(name: str, old: float, new: float) -> str:
    """The share by which a figure moved, or the difference of what is in nats."""
    if name in METRICS and METRICS[name].unit == LOGARITHMIC:
        text, moved = f" ({number(new - old, '+.3g')})", new - old
    else:
        moved = 100 * (new / old - 1) if old else math.nan
        text = f" ({number(moved, '+.2f' if abs(moved) >= 0.01 else '+.1e')} %)"
    return text if math.isfinite(moved) else ""


def _median(values: Sequence[float] | None) -> float:
    return statistics.median(values) if values else math.nan


def _names(moved: Move) -> str:
    names = [*moved.figures[:NAMED], *(["…"] if len(moved.figures) > NAMED else [])]
    return ", ".join([*names, *(["operators"] if moved.operators else [])])


def _versions(changes: Mapping[str, tuple[Declared, Declared]]) -> str:
    return ", ".join(
        f"{name} {old.version}.{old.pace} → {new.version}.{new.pace}"
        for name, (old, new) in changes.items()
    )


def _choices(record: Record) -> str:
    """What may have to be raised: of a plug-in's case what the plug-in registers."""
    members = {"flow": record.case.flow, "data": record.case.dataset}
    own = [f"{kind} {members[kind]}" for kind in record.plugins if kind in members]
    return " or ".join(own or record.declared)
