"""Trends: each figure over the commits, cut where it may not be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

from benchmarks.core.metrics import METRICS, Kind, Metric
from benchmarks.history.snapshot import Figures, Quality, Snapshot
from flows.registry import Declared


@dataclass(frozen=True)
class Point:
    """A figure at one commit.

    ``value`` is a count, a mean over seeds, or a time in times of the reference workload;
    ``seeds`` are the values of a quality by seed. ``caution`` is why a time is not to be quoted.
    """

    snapshot: Snapshot
    value: float
    seeds: Mapping[str, Quality] = field(default_factory=dict)
    caution: str = ""


@dataclass(frozen=True)
class Stretch:
    """Points that may be compared: of one environment, of equal versions and files."""

    place: str
    versions: Mapping[str, Declared]
    files: Mapping[str, str]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Trend:
    """A metric of a case over the commits, its stretches by their first commits."""

    case: str
    name: str
    kind: Kind
    stretches: tuple[Stretch, ...]

    @property
    def metric(self) -> Metric:
        """The metric's row in the table of metrics."""
        return METRICS[self.name]

    @property
    def cuts(self) -> list[tuple[Stretch, Stretch]]:
        """Each stretch but the first, with the one before it."""
        return list(pairwise(self.stretches))

    @property
    def points(self) -> list[Point]:
        """The points of all stretches."""
        return [point for stretch in self.stretches for point in stretch.points]


def trends(snapshots: Sequence[Snapshot], metrics: Iterable[str] = ()) -> list[Trend]:
    """The trends of snapshots in the order of their commits, of these metrics or of all.

    Figures are matched by case and metric. Of several values of a commit in one environment the
    last one counts, among times one that may be quoted before any other. What a raised version, for
    a time a raised pace as well, separates is no more compared than another minor version of torch
    or, for times, another class of machine: it begins a stretch. Metrics without a row in the
    table, or without a better direction, have no trend.
    """
    wanted = {*metrics} or METRICS.keys()
    names = _names(snapshots)
    points: dict[tuple[str, str, Kind], dict[tuple[object, ...], dict[str, Point]]] = {}
    abouts: dict[tuple[object, ...], tuple[str, Mapping[str, Declared], Mapping[str, str]]] = {}
    for snapshot in snapshots:
        for figures in snapshot.cases:
            for name, kind, point in _points(snapshot, figures):
                if name not in wanted or name not in METRICS:
                    continue
                place = snapshot.place if kind == "time" else f"torch {snapshot.torch}"
                versions = figures.versions if kind == "time" else _without_paces(figures)
                about = (place, *sorted(versions.items()), *sorted(figures.files.items()))
                abouts[about] = place, versions, figures.files
                stretch = points.setdefault((figures.key, name, kind), {}).setdefault(about, {})
                before = stretch.get(snapshot.revision)
                if before is None or before.caution or not point.caution:
                    stretch[snapshot.revision] = point
    order = list(METRICS)
    listed = [
        Trend(
            names[key],
            name,
            kind,
            tuple(Stretch(*abouts[about], tuple(s.values())) for about, s in stretches.items()),
        )
        for (key, name, kind), stretches in points.items()
    ]
    return sorted(listed, key=lambda trend: order.index(trend.name))


def _points(snapshot: Snapshot, figures: Figures) -> Iterator[tuple[str, Kind, Point]]:
    for name, value in figures.exact.items():
        yield name, "exact", Point(snapshot, value)
    for name, seeds in figures.quality.items():
        mean = fmean(quality.value for quality in seeds.values())
        yield name, "quality", Point(snapshot, mean, seeds)
    for name, value in figures.times.items():
        yield name, "time", Point(snapshot, value, caution=figures.caution)


def _without_paces(figures: Figures) -> dict[str, Declared]:
    versions = {name: Declared(number.version) for name, number in figures.versions.items()}
    return {name: number for name, number in versions.items() if number != Declared()}


def _names(snapshots: Iterable[Snapshot]) -> dict[str, str]:
    """The last label of each case, with its key where another case has the same."""
    labels = {figures.key: figures.label for s in snapshots for figures in s.cases}
    counts = Counter(labels.values())
    return {k: f"{text} ({k[:4]})" if counts[text] > 1 else text for k, text in labels.items()}
