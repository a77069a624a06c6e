"""Steps: where a figure changed by more than chance can explain."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from benchmarks.analysis.change_points import change_points
from benchmarks.core.formats import number
from benchmarks.gate.changes import LOGARITHMIC
from benchmarks.gate.comparison import LEVEL
from benchmarks.gate.quality import difference, same
from benchmarks.history.file import History
from benchmarks.history.trends import Point, Stretch, Trend

FACTOR = 1.05  # by which a time has to change, beyond what two processes of one revision differ
Change = tuple[Point, Point, float, float]  # last before, first after, and the values of either


@dataclass(frozen=True)
class Step:
    """A change from one measured commit to the next, from ``old`` to ``new``.

    The two are counts, means over seeds, or medians of the times on either side. ``name`` is the
    commit of the step, or the range that it lies in.
    """

    trend: Trend
    before: Point
    after: Point
    old: float
    new: float
    name: str

    @property
    def better(self) -> bool:
        """Whether the change is in the metric's better direction."""
        higher = self.trend.kind != "time" and self.trend.metric.better == "higher"
        return (self.new > self.old) == higher

    @property
    def change(self) -> str:
        """The change in per cent, or as a difference of what is in nats or was zero."""
        if self.trend.metric.unit == LOGARITHMIC or not self.old:
            text = number(self.new - self.old, ".3g")
            return text if self.new < self.old else f"+{text}"
        return f"{100 * (self.new / self.old - 1):+.3g} %".replace("-", "−")


def steps(history: History, trends: Sequence[Trend]) -> list[Step]:
    """The steps of a history's trends, in the order of commits.

    Exact counts: every change. Qualities: what the gate would call significant between a commit
    and the first of its level, so that a drift adds up; those without a known error by the test of
    times. Times: change points of those that may be quoted, by a rank test, if the medians of both
    sides differ by `FACTOR`. `LEVEL` bounds the chance of any false step among all qualities of
    these trends, and among all their times.
    """
    tested = Counter(t.kind for t in trends for s in t.stretches if len(_tested(s)) > 1)
    levels = {kind: LEVEL / number for kind, number in tested.items()}
    listed = [
        Step(trend, before, after, old, new, history.range(before.snapshot, after.snapshot))
        for trend in trends
        for stretch in trend.stretches
        if len(_tested(stretch)) > 1
        for before, after, old, new in _changes(trend, stretch, levels[trend.kind])
    ]
    order = {id(snapshot): place for place, snapshot in enumerate(history.snapshots)}
    return sorted(listed, key=lambda step: order[id(step.after.snapshot)])


def _changes(trend: Trend, stretch: Stretch, level: float) -> Iterator[Change]:
    points = _tested(stretch)
    if trend.kind == "exact":
        yield from ((a, b, a.value, b.value) for a, b in pairwise(points) if a.value != b.value)
    elif trend.kind == "time":
        beyond = math.log(FACTOR)
        yield from (c for c in _by_ranks(points, level) if abs(math.log(c[3] / c[2])) >= beyond)
    elif all(map(_resolved, pairwise(points))):
        yield from _by_errors(points, level / (len(points) - 1))
    else:
        yield from _by_ranks(points, level)


def _tested(stretch: Stretch) -> list[Point]:
    """The points of a stretch that may be quoted."""
    return [point for point in stretch.points if not point.caution]


def _by_ranks(points: Sequence[Point], level: float) -> Iterator[Change]:
    """The change points of values whose errors are not known."""
    values = [point.value for point in points]
    places = change_points(values, level)
    for start, place, end in zip([0, *places], places, [*places[1:], len(values)], strict=False):
        old, new = median(values[start:place]), median(values[place:end])
        yield points[place - 1], points[place], old, new


def _by_errors(points: Sequence[Point], level: float) -> Iterator[Change]:
    """The points that differ from the first of their level by more than their errors explain."""
    first = points[0]
    for before, after in pairwise(points):
        p = _p(first, after)
        if p is not None and p < level:
            yield before, after, first.value, after.value
            first = after


def _p(before: Point, after: Point) -> float | None:
    """The p-value of a quality not having moved, 1 if it is equal but for rounding.

    None where the errors are not known.
    """
    old, new = ({s: q.value for s, q in point.seeds.items()} for point in (before, after))
    if old.keys() == new.keys() and all(same(old[seed], new[seed]) for seed in old):
        return 1.0
    errors = [next(iter(point.seeds.values())).error for point in (before, after)]
    known = [math.nan if error is None else error for error in errors]
    moved = difference(old, new, (known[0], known[1]))
    return None if moved is None else moved.p


def _resolved(pair: tuple[Point, Point]) -> bool:
    return _p(*pair) is not None
