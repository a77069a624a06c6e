"""The metrics of cases that several sides share: values, and what became of the first side's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.core.exhibit import RECORDS, Table
from benchmarks.core.metrics import METRICS
from benchmarks.core.record import Record, Values

LOGARITHMIC = "nats"  # metrics of this unit differ by a difference, all others by a ratio
REFERENCE = "reference_seconds"
DIGITS = dict.fromkeys(("Median", "Smallest", "Largest", "Median per workload"), ".4g")
OVERVIEW = (
    "Over the cases that are done on both sides, of the medians of their values: ratios, and "
    "differences of what is in nats. Equal: how many have the very same value. Per workload: of "
    "times as multiples of each side's own reference workload. Nothing is judged here: what two "
    "runs measure at different times differs by more than its samples show."
)
CASES = (
    "Medians of each case's values, without those that are equal on all sides. Per workload: the "
    "ratio of times as multiples of each side's own reference workload."
)


@dataclass(frozen=True)
class Shared:
    """A case that is done on two sides or more: its name, keys and records by side."""

    label: str
    keys: Mapping[str, str]
    records: Mapping[str, Record]

    def value(self, side: str, metric: str) -> float | None:
        """The median of its values; None where there are none, or they are none."""
        values = self._values(side, metric)
        middle = median(values.values) if values and values.values else math.nan
        return None if math.isnan(middle) else middle

    def change(self, base: str, side: str, metric: str) -> float | None:
        """Ratio or difference of a side's value to the base's; None where one is not there."""
        before, after = self.value(base, metric), self.value(side, metric)
        if before is None or after is None:
            return None
        if before == after:
            return 0.0 if subtracted(metric) else 1.0
        if subtracted(metric):
            return after - before
        return after / before if before else math.copysign(math.inf, after)

    def relative(self, base: str, side: str, metric: str) -> float | None:
        """The ratio of times as multiples of each side's reference workload."""
        ratio, unit = self.change(base, side, metric), self.change(base, side, REFERENCE)
        return ratio / unit if ratio is not None and unit else None

    def _values(self, side: str, metric: str) -> Values | None:
        return self.records[side].metrics.get(metric) if side in self.records else None


def subtracted(metric: str) -> bool:
    """Whether values differ by a difference: logarithms do."""
    return METRICS[metric].unit == LOGARITHMIC


def tables(study: str, sides: Sequence[str], cases: Sequence[Shared]) -> list[Table]:
    """What became of each metric over all cases; then exact counts, and all else, case by case."""
    have = {name for case in cases for record in case.records.values() for name in record.metrics}
    known = [name for name in METRICS if name in have]
    base, others = sides[0], sides[1:]
    over = pd.DataFrame(_overview(known, base, others, cases))
    if over.empty:
        return []
    exact = [name for name in known if METRICS[name].kind == "exact"]
    nats = [name for name in known if subtracted(name)]
    rest = [name for name in known if name not in (*exact, *nats)]
    made = [Table(f"{study}-changes", "What changed", OVERVIEW, over, DIGITS)]
    for name, title, metrics, digits in (
        ("counts", "Exact counts that differ", exact, ",.0f"),
        ("values", "Times and other values that differ", rest, ".4g"),
        ("nats", "What differs in nats", nats, ".4g"),
    ):
        frame = pd.DataFrame(_rows(metrics, base, others, cases))
        if len(frame):
            formats = dict.fromkeys(sides, digits)
            ratio = ".9g" if name == "counts" else ".4g"  # one more of a million is told apart
            formats |= {str(h): ratio for h in frame if str(h).endswith((f"÷ {base}", f"− {base}"))}
            made.append(Table(f"{study}-{name}", title, CASES, frame, formats))
    return made


def _overview(
    metrics: Sequence[str], base: str, others: Sequence[str], cases: Sequence[Shared]
) -> Iterator[dict[str, Any]]:
    for name in metrics:
        for side in others:
            both = [case for case in cases if case.change(base, side, name) is not None]
            changes = sorted(case.change(base, side, name) or 0.0 for case in both)
            if not both:
                continue
            metric, neutral = METRICS[name], 0.0 if subtracted(name) else 1.0
            row = {
                "Metric": name,
                "Of": f"{side} {'−' if subtracted(name) else '÷'} {base}",
                "Cases": len(both),
                "Equal": changes.count(neutral),
                "Median": median(changes),
                "Smallest": changes[0],
                "Largest": changes[-1],
            }
            if metric.kind == "time" and name != REFERENCE:
                known = [case.relative(base, side, name) for case in both]
                told = [ratio for ratio in known if ratio is not None]
                row["Median per workload"] = median(told) if told else None
            row |= {"Unit": metric.unit, "Better": metric.better, "Kind": metric.kind}
            keys = tuple(case.keys[s] for case in both for s in (base, side))
            yield row | {"Meaning": metric.about, RECORDS: keys}


def _rows(
    metrics: Sequence[str], base: str, others: Sequence[str], cases: Sequence[Shared]
) -> Iterator[dict[str, Any]]:
    """A row for each case and metric whose values are not all equal."""
    for name in metrics:
        for case in cases:
            values = {side: case.value(side, name) for side in (base, *others)}
            known = {side: value for side, value in values.items() if value is not None}
            if len(known) < 2 or len(set(known.values())) == 1:
                continue
            row: dict[str, Any] = {"Case": case.label, "Metric": name, "Unit": METRICS[name].unit}
            row |= values
            for side in others:
                sign = "−" if subtracted(name) else "÷"
                row[f"{side} {sign} {base}"] = case.change(base, side, name)
                if METRICS[name].kind == "time" and name != REFERENCE:
                    row[f"Per workload: {side} ÷ {base}"] = case.relative(base, side, name)
            yield row | {RECORDS: tuple(case.keys[side] for side in known)}
