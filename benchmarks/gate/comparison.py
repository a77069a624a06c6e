"""What a comparison says: a line for each number of both results, for each case and metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Literal

from benchmarks.analysis.inference import holm
from benchmarks.core.metrics import Kind
from benchmarks.core.naming import counted
from benchmarks.gate.sources import Entry

LEVEL = 0.05  # of all two-sided tests of a class together, by Holm's correction

Class = Literal["case", Kind]
CLASSES: tuple[Class, ...] = ("case", "exact", "quality", "time")
Finding = Literal[
    "worse",
    "better",
    "moved",  # a figure of the guard, whichever way
    "stayed",
    "appeared",
    "vanished",
    "failed",
    "unjudged",
    "incomparable",
]
UNKNOWN: tuple[Finding, ...] = ("unjudged", "incomparable")  # nothing was learnt


@dataclass(frozen=True)
class Comparison:
    """One metric of one case in both results, or, without a metric, what became of a case.

    ``base`` and ``new`` are counts, means over seeds, or medians in times of the reference
    workload. ``change`` says the difference as text, ``p`` is corrected for the number of tests,
    ``note`` is the reason for the outcome.
    """

    case: str
    metric: str
    kind: Class
    outcome: Finding
    fails: bool = False
    unit: str = ""
    base: float | None = None
    new: float | None = None
    change: str = ""
    p: float | None = None
    note: str = ""


@dataclass(frozen=True)
class MetricChange:
    """How a metric changed over all cases that have it in both results; nothing is judged.

    A ``difference`` of what is in nats, else a ratio, of the medians of each case's values.
    ``equal`` counts the cases whose value is the very same. ``per_workload`` is the median ratio
    of times in units of each result's own reference workload.
    """

    metric: str
    difference: bool
    cases: int
    equal: int
    median: float
    smallest: float
    largest: float
    per_workload: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Everything that was compared, and whether the build fails."""

    base: str
    new: str
    factor: float
    comparisons: tuple[Comparison, ...]
    changes: tuple[MetricChange, ...]
    measured: tuple[Entry, ...]  # of the new result
    raised: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by version the cases moved
    aged: Mapping[str, int] = field(default_factory=dict)  # stale records of the new result, by why

    @property
    def failures(self) -> list[Comparison]:
        """What makes the gate fail."""
        return [comparison for comparison in self.comparisons if comparison.fails]

    @property
    def judged(self) -> int:
        """How many numbers were compared with another."""
        numbers = [c for c in self.comparisons if c.kind != "case"]
        return sum(comparison.outcome not in UNKNOWN for comparison in numbers)

    @property
    def status(self) -> int:
        """Exit status: 0 passed, 1 failed, 2 where nothing was judged, which is no pass."""
        return 1 if self.failures else 0 if self.judged else 2

    @property
    def notable(self) -> list[Comparison]:
        """What a person has to see, failures first: all but what stayed or cannot be compared."""
        moved = [c for c in self.comparisons if c.outcome not in ("stayed", "incomparable")]
        return sorted(moved, key=lambda comparison: not comparison.fails)

    @property
    def unresolved(self) -> list[Comparison]:
        """Qualities that differ by less than their error can resolve."""
        stayed = [c for c in self.comparisons if c.outcome == "stayed" and c.kind == "quality"]
        return [comparison for comparison in stayed if comparison.base != comparison.new]

    @property
    def moved(self) -> list[MetricChange]:
        """The metrics that are not equal in all cases."""
        return [change for change in self.changes if change.equal < change.cases]

    @property
    def incomparable(self) -> dict[str, int]:
        """How many numbers could not be compared, by reason."""
        return dict(Counter(c.note for c in self.comparisons if c.outcome == "incomparable"))

    @property
    def summary(self) -> list[str]:
        """A line for each class, and the last for the verdict."""
        lines = []
        for kind in CLASSES:
            counts = Counter(c.outcome for c in self.comparisons if c.kind == kind)
            if counts:
                outcomes = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
                lines.append(f"{kind}: {outcomes}")
        lines += [f"{n} not comparable: {why}" for why, n in self.incomparable.items()]
        for name, labels in self.raised.items():
            moved = f"figures moved in {len(labels)} cases: {'; '.join(labels)}"
            lines.append(f"raised: {name}; {moved if labels else 'no figure moved'}")
        for why, n in self.aged.items():
            lines.append(f"older than the code here: {counted(n, 'record')} of {self.new} ({why})")
        if self.failures:
            return [*lines, f"FAILED: {counted(len(self.failures), 'failure')}"]
        return [*lines, "passed" if self.judged else "NOT COMPARABLE: nothing was judged"]


def corrected(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Correct the p-values of those that were tested for their number."""
    listed = list(comparisons)
    adjusted = iter(holm([each.p for each in listed if each.p is not None]))
    return [each if each.p is None else replace(each, p=next(adjusted)) for each in listed]


def allowed(label: str, patterns: Iterable[str]) -> bool:
    """Whether a label is one of these, or matches a pattern."""
    return any(label == pattern or fnmatch(label, pattern) for pattern in patterns)
