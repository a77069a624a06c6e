"""The history as one HTML page: steps, and for each metric and case a small trend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from benchmarks.core.metrics import METRICS
from benchmarks.history import rendering
from benchmarks.history.file import History
from benchmarks.history.steps import Step, steps
from benchmarks.history.trends import Point, Trend, trends
from benchmarks.report.formats import html

WIDTH, HEIGHT, MARGIN = 300.0, 72.0, 6.0  # of a trend, in pixels


@dataclass(frozen=True)
class Mark:
    """A place in a picture, and the text of it that a pointer shows."""

    x: float
    y: float
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Picture:
    """A trend as it is drawn: lines, points, where a line begins anew, and steps."""

    trend: Trend
    lines: Sequence[str]
    points: Sequence[Mark]
    cuts: Sequence[Mark]
    steps: Sequence[Mark]

    @property
    def last(self) -> str:
        """The last figure."""
        return rendering.value(self.trend, self.trend.stretches[-1].points[-1].value)


def render(history: History) -> str:
    """The text of the page."""
    listed = trends(history.snapshots)
    changes = steps(history, listed)
    commits = list(dict.fromkeys(s.revision for s in history.snapshots))
    scale = (WIDTH - 2 * MARGIN) / max(1, len(commits) - 1)
    places = {commit: MARGIN + index * scale for index, commit in enumerate(commits)}
    pictures = [_picture(t, [c for c in changes if c.trend is t], places) for t in listed]
    metrics = [
        (name, METRICS[name], sorted(group, key=lambda picture: not picture.steps))
        for name, group in groupby(pictures, key=lambda picture: picture.trend.name)
    ]
    environment = html.environment(Path(__file__).parent, Path(html.__file__).parent)
    return environment.get_template("page.html.jinja").render(
        summary=rendering.summary(history, listed, changes),
        headers=rendering.STEPS,
        steps=[rendering.step(change) for change in changes],
        cut_headers=rendering.CUTS,
        cuts=rendering.cuts(history, listed),
        commit_headers=rendering.COMMITS,
        commits=[rendering.commit(snapshot) for snapshot in history.snapshots],
        metrics=metrics,
        width=WIDTH,
        height=HEIGHT,
        filtered=html.FILTERED,
    )


def _picture(trend: Trend, changes: Sequence[Step], places: Mapping[str, float]) -> Picture:
    values = [point.value for point in trend.points]
    low, span = min(values), max(values) - min(values)

    def mark(point: Point, text: str, kind: str = "") -> Mark:
        share = (point.value - low) / span if span else 0.5
        y = HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)
        return Mark(round(places[point.snapshot.revision], 1), round(y, 1), text, kind)

    marks = [[mark(p, _about(trend, p), _kind(p)) for p in s.points] for s in trend.stretches]
    cuts = [mark(after.points[0], rendering.cut(before, after)) for before, after in trend.cuts]
    return Picture(
        trend,
        [" ".join(f"{m.x},{m.y}" for m in stretch) for stretch in marks],
        [m for stretch in marks for m in stretch],
        cuts,
        [mark(c.after, " ".join(rendering.step(c)), rendering.step(c)[-1]) for c in changes],
    )


def _about(trend: Trend, point: Point) -> str:
    snapshot = point.snapshot
    text = f"{snapshot.name}, {snapshot.date:%Y-%m-%d %H:%M}: {rendering.value(trend, point.value)}"
    return f"{text}; not to be quoted: {point.caution}" if point.caution else text


def _kind(point: Point) -> str:
    return "doubtful" if point.caution else ""
