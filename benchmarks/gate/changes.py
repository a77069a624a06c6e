"""How each metric changed over all cases: ratios, and differences of what is in nats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.core.frame import REFERENCE
from benchmarks.core.metrics import METRICS
from benchmarks.gate.comparison import MetricChange
from benchmarks.gate.sources import Entry

LOGARITHMIC = "nats"  # metrics of this unit change by a difference, all others by a ratio
Pair = tuple[Entry, Entry]


def changes(pairs: Sequence[Pair]) -> Iterator[MetricChange]:
    """The change of each metric that cases have in both results; of times only on one machine."""
    for name, metric in METRICS.items():
        timed = metric.kind == "time"
        common = [pair for pair in pairs if not timed or (pair[0].place == pair[1].place != "")]
        known = [(pair, moved) for pair in common if (moved := change(*pair, name)) is not None]
        if not known:
            continue
        moves = sorted(moved for _, moved in known)
        difference = metric.unit == LOGARITHMIC
        yield MetricChange(
            metric=name,
            difference=difference,
            cases=len(moves),
            equal=moves.count(0.0 if difference else 1.0),
            median=median(moves),
            smallest=moves[0],
            largest=moves[-1],
            per_workload=_per_workload(known) if timed and name != REFERENCE else None,
        )


def change(before: Entry, after: Entry, metric: str) -> float | None:
    """Ratio of the medians of a metric's values, or their difference; None without either."""
    base, new = before.median(metric), after.median(metric)
    if base is None or new is None:
        return None
    if METRICS[metric].unit == LOGARITHMIC:
        return new - base if new != base else 0.0
    if new == base:
        return 1.0
    return new / base if base else math.copysign(math.inf, new)


def _per_workload(known: Sequence[tuple[Pair, float]]) -> float | None:
    """The median ratio over that of the reference workloads; None where none was timed."""
    units = ((moved, change(*pair, REFERENCE)) for pair, moved in known)
    ratios = [moved / unit for moved, unit in units if unit]
    return median(ratios) if ratios else None
