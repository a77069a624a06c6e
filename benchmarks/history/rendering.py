"""A history as rows of text: its steps, its trends, and what is to be known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.core.formats import number
from benchmarks.core.naming import counted
from benchmarks.gate.comparison import LEVEL
from benchmarks.history.file import History
from benchmarks.history.snapshot import Snapshot
from benchmarks.history.steps import Step
from benchmarks.history.trends import Stretch, Trend
from flows.registry import Declared

COMMITS = ("Commit", "Date", "Subject", "Suite", "Cases", "Machine", "Not measured")
STEPS = ("Commit", "Case", "Metric", "Before", "After", "Change", "Verdict")
CUTS = ("Commit", "Raised or changed", "Trends", "Counts and qualities that moved")
TRENDS = ("Case", "Metric", "Commits", "Lines", "First", "Last")
DIGITS = {"exact": ",.0f", "quality": ".5g", "time": ".4g"}


def commit(snapshot: Snapshot) -> tuple[str, ...]:
    """The cells of a snapshot, under `COMMITS`."""
    about = (snapshot.name, f"{snapshot.date:%Y-%m-%d %H:%M}", snapshot.subject, snapshot.suite)
    return (*about, str(len(snapshot.cases)), snapshot.place, snapshot.reason)


def step(change: Step) -> tuple[str, ...]:
    """The cells of a step, under `STEPS`."""
    trend, outcome = change.trend, "better" if change.better else "worse"
    values = [value(trend, change.old), value(trend, change.new)]
    return (change.name, trend.case, trend.name, *values, change.change, outcome)


def trend(trend: Trend) -> tuple[str, ...]:
    """The cells of a trend, under `TRENDS`."""
    points = trend.points
    counts = [str(len(points)), str(len(trend.stretches))]
    return (trend.case, trend.name, *counts, *(value(trend, points[i].value) for i in (0, -1)))


def value(trend: Trend, amount: float) -> str:
    """A figure of a trend with its unit; a time in times of the reference workload."""
    unit = "× reference" if trend.kind == "time" else trend.metric.unit
    return f"{number(amount, DIGITS[trend.kind])} {unit}".strip()


def cut(before: Stretch, after: Stretch) -> str:
    """What separates two stretches of a trend, as in "flow cnf 1.1 → 2.1"."""
    parts = [f"{before.place} → {after.place}"] if before.place != after.place else []
    for name in dict.fromkeys((*before.versions, *after.versions)):
        old, new = (side.versions.get(name, Declared()) for side in (before, after))
        if old != new:
            parts.append(f"{name} {old.version}.{old.pace} → {new.version}.{new.pace}")
    names = dict.fromkeys((*before.files, *after.files))
    parts += [f"{n} changed" for n in names if before.files.get(n) != after.files.get(n)]
    return ", ".join(parts)


def cuts(history: History, trends: Sequence[Trend]) -> list[tuple[str, ...]]:
    """Where trends begin a new line, under `CUTS`: how many of them, and how many figures moved."""
    moves: dict[tuple[str, str], list[bool]] = {}
    for trend in trends:
        for before, after in trend.cuts:
            old, new = before.points[-1], after.points[0]
            place = history.range(old.snapshot, new.snapshot), cut(before, after)
            moves.setdefault(place, []).append(trend.kind != "time" and old.value != new.value)
    order = {snapshot.name: n for n, snapshot in enumerate(history.snapshots)}
    rows = [(*place, str(len(moved)), str(sum(moved))) for place, moved in moves.items()]
    return sorted(rows, key=lambda row: order[row[0].rpartition("..")[2]])


def summary(history: History, trends: Sequence[Trend], changes: Sequence[Step]) -> list[str]:
    """What a history holds, what was tested, and what could not be."""
    commits = {s.revision for s in history.snapshots if s.cases}
    lines = [
        f"{counted(len(changes), 'step')} in {counted(len(trends), 'trend')} over "
        f"{counted(len(commits), 'commit')}; level {LEVEL} for all qualities, and for all times"
    ]
    points = [point for trend in trends if trend.kind == "time" for point in trend.points]
    reasons = Counter(point.caution for point in points if point.caution)
    lines += [f"{n} of {len(points)} times were not tested: {why}" for why, n in reasons.items()]
    for snapshot in history.snapshots:
        lines += [f"{snapshot.name} was not measured: {snapshot.reason}"] * bool(snapshot.reason)
        lines += [f"{snapshot.name}: {case} {why}" for case, why in snapshot.failed.items()]
    return lines
