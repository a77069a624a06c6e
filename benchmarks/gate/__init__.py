"""The gate: two results compared in three classes, exact counts, qualities and times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.core.record import Record
from benchmarks.execution.versions import standing
from benchmarks.gate import cases, changes, exact, guard, quality, sources, times
from benchmarks.gate.comparison import Verdict
from benchmarks.gate.sources import Entry

FACTOR = 1.1  # by which a time may grow


def compare(base: Path, new: Path, *, factor: float = FACTOR, allow: Sequence[str] = ()) -> Verdict:
    """Compare two results; ValueError where they cannot be compared.

    ``factor`` is what a time may grow by, ``allow`` patterns of labels of cases that may
    vanish, or be worse in a quality that cannot be judged.
    """
    if not 1 <= factor < math.inf:
        raise ValueError(f"a time may grow by a finite factor of 1 or more: got {factor:g}")
    old, latest = sources.read(base), sources.read(new)
    sources.comparable(old, latest)
    before, after = sources.entries(old, latest)
    done = [
        {key: entry for key, entry in side.items() if entry.status == "done"}
        for side in (before, after)
    ]
    guarded = _guarded(*done)
    done = [{key: e for key, e in side.items() if key not in guarded} for side in done]
    pairs = [(entry, done[1][key]) for key, entry in done[0].items() if key in done[1]]
    comparisons = (
        *cases.judge(before, after, allow),
        *guard.judge(guarded.values()),
        *exact.judge(pairs),
        *quality.judge(done[0].values(), done[1].values(), allow),
        *times.judge(pairs, factor),
    )
    moves = tuple(changes.changes(pairs))
    raised = guard.movers(guarded.values())
    measured = tuple(after.values())
    aged = _aged(latest.records)
    return Verdict(str(base), str(new), factor, comparisons, moves, measured, raised, aged)


def _aged(records: Iterable[Record]) -> dict[str, int]:
    """How many records the present code would measure anew, by the reason."""
    reasons = Counter(standing(record).reason for record in records)
    return {reason: count for reason, count in reasons.items() if reason}


def _guarded(
    before: Mapping[str, Entry], after: Mapping[str, Entry]
) -> dict[str, tuple[str, Record, Record]]:
    """The cases that the guard judges by key: label, and the records of both results."""
    guarded = {}
    for key in (key for key in before if key in after):
        old, new = before[key].record, after[key].record
        if old and new and guard.guarded(old) and guard.guarded(new):
            guarded[key] = (before[key].label, old, new)
    return guarded
