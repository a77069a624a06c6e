"""Cases: those that vanished, failed or appeared, and measurements that a case has lost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.gate.comparison import Comparison, allowed
from benchmarks.gate.sources import Entry


def judge(
    before: Mapping[str, Entry], after: Mapping[str, Entry], allow: Sequence[str]
) -> Iterator[Comparison]:
    """Compare the cases themselves; one that was renamed has vanished and appeared."""
    for key, old in before.items():
        new = after.get(key)
        if new is None:
            yield _vanished(old.label, "", allow)
        elif new.status == "done" and old.status == "done":
            yield Comparison(old.label, "", "case", "stayed")
            for name in sorted(old.metrics):
                if name not in new.metrics:
                    yield _vanished(old.label, name, allow)
                elif _sound(old, name) and not _sound(new, name):
                    yield _lost(new, name)
        elif new.status == "done":
            yield Comparison(old.label, "", "case", "appeared", note=f"was {old.status} before")
        elif old.status == "done":
            yield _failed(new)
        else:
            yield Comparison(old.label, "", "case", "stayed", note=f"{new.status} before and now")
    for key, new in after.items():
        if key not in before and new.status == "done":
            yield Comparison(new.label, "", "case", "appeared")
        elif key not in before:
            yield _failed(new)


def _vanished(label: str, metric: str, allow: Sequence[str]) -> Comparison:
    known = allowed(label, allow)
    note = "allowed" if known else ""
    return Comparison(label, metric, "case", "vanished", fails=not known, note=note)


def _sound(entry: Entry, name: str) -> bool:
    """Whether a metric has values, and each is a number; a time or rate is above zero."""
    values, least = entry.metrics[name].values, 0.0 if entry.kind(name) == "time" else -math.inf
    return bool(values) and all(least < value < math.inf for value in values)


def _lost(entry: Entry, name: str) -> Comparison:
    values = entry.metrics[name].values
    numbers = "above zero" if entry.kind(name) == "time" else "numbers"
    note = f"its values are not all {numbers} now" if values else "it has no values now"
    return Comparison(entry.label, name, "case", "failed", fails=True, note=note)


def _failed(entry: Entry) -> Comparison:
    note = f"{entry.status}: {entry.reason}" if entry.reason else entry.status
    return Comparison(entry.label, "", "case", "failed", fails=True, note=note)
