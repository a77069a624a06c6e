"""The gate: exact counts of two results folders, which must be equal."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import store
from benchmarks.naming import labels
from benchmarks.store import Record


@dataclass(frozen=True)
class Change:
    """One difference, and whether it fails the gate."""

    case: str
    metric: str
    base: str
    new: str
    verdict: str
    fails: bool


@dataclass(frozen=True)
class Verdict:
    """All differences, and how many exact counts were equal."""

    changes: list[Change]
    equal: int

    @property
    def fails(self) -> bool:
        """Whether the build should go red."""
        return any(change.fails for change in self.changes)

    @property
    def summary(self) -> str:
        """One line."""
        bad = sum(change.fails for change in self.changes)
        return f"{self.equal} exact counts equal, {bad} failures, {len(self.changes) - bad} notes"


def compare(base: Path, new: Path) -> Verdict:
    """Compare the exact counts of two folders; ValueError where they cannot be compared.

    A count that rose or fell fails, as does a case that vanished or no longer succeeds: a count
    that fell is an improvement to be taken into the baseline on purpose. A new case is a note.
    """
    before, after = _records(base), _records(new)
    _comparable(base, before, new, after)
    told = labels(record.case for record in {**before, **after}.values())
    changes, equal = [], 0
    for key, old in before.items():
        now = after.get(key)
        if now is None or now.status != "done":
            what = "vanished" if now is None else f"{now.status}: {now.reason}"
            changes.append(Change(told[key], "", "done", what, "missing", True))
            continue
        for name, metric in old.metrics.items():
            if metric.kind != "exact":
                continue
            values = now.metrics[name].values if name in now.metrics else []
            if values == metric.values:
                equal += 1
                continue
            verdict = "changed"
            if values:
                better = (values[0] < metric.values[0]) == (metric.better == "lower")
                verdict = "better: renew the baseline" if better else "worse"
            base_text, new_text = _text(metric.values), _text(values)
            changes.append(Change(told[key], name, base_text, new_text, verdict, True))
    for key in after.keys() - before.keys():
        changes.append(Change(told[key], "", "none", "done", "new", False))
    return Verdict(changes, equal)


def renew(folder: Path, target: Path) -> int:
    """Make the done records of ``folder`` the baseline in ``target``; their number."""
    records = _records(folder)
    if target.exists():
        shutil.rmtree(target)
    for record in records.values():
        exact = {name: m for name, m in record.metrics.items() if m.kind == "exact"}
        kept = {"metrics": exact, "arrays": None, "machine": {}, "seconds": 0.0}
        store.write(target, record.model_copy(update=kept))
    return len(records)


def _text(values: list[float]) -> str:
    return ", ".join(f"{value:,.0f}" for value in values) or "none"


def _records(folder: Path) -> dict[str, Record]:
    records = {k: r for k, r in store.read(store.existing(folder)).items() if r.status == "done"}
    if not records:
        raise ValueError(f"{str(folder)!r} holds no record of a finished case")
    return records


def _comparable(base: Path, before: dict[str, Record], new: Path, after: dict[str, Record]) -> None:
    aspects: dict[str, Callable[[Record], str]] = {
        "torch": lambda r: ".".join(r.versions.get("torch", "?").split(".")[:2]),
        "protocol": lambda r: r.case.protocol,
    }
    for what, of in aspects.items():
        sides = [sorted({of(r) for r in records.values()}) for records in (before, after)]
        if sides[0] != sides[1]:
            raise ValueError(
                f"cannot compare {str(base)!r} and {str(new)!r}: {what} {sides[0]} against "
                f"{sides[1]}; renew the baseline"
            )
