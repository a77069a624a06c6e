"""What a comparison finds: one line for each number that both sides have, and for each case."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from benchmarks.gate.sides import Entry

LEVEL = 0.05  # of all two-sided tests of a class together, by Holm's correction

Kind = Literal["case", "exact", "quality", "time"]
Outcome = Literal[
    "worse", "better", "stayed", "appeared", "vanished", "failed", "unjudged", "incomparable"
]


@dataclass(frozen=True)
class Comparison:
    """One metric of one case on both sides, or, without a metric, what became of a case.

    ``base`` and ``new`` are counts, means over seeds, or medians in times of the reference
    workload. ``change`` says the difference as text, ``p`` is corrected for the number of tests,
    ``note`` why a number is judged as it is.
    """

    case: str
    metric: str
    kind: Kind
    outcome: Outcome
    fails: bool = False
    unit: str = ""
    base: float | None = None
    new: float | None = None
    change: str = ""
    p: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """Everything that was compared, and whether the build should go red."""

    base: str
    new: str
    factor: float
    comparisons: tuple[Comparison, ...]
    measured: tuple[Entry, ...]  # of the new side

    @property
    def failures(self) -> list[Comparison]:
        """What makes the gate fail."""
        return [found for found in self.comparisons if found.fails]

    @property
    def told(self) -> list[Comparison]:
        """What a person has to see, failures first: all but what stayed or cannot be compared."""
        seen = [c for c in self.comparisons if c.outcome not in ("stayed", "incomparable")]
        return sorted(seen, key=lambda found: not found.fails)

    @property
    def unresolved(self) -> list[Comparison]:
        """Qualities that differ by less than their error can resolve."""
        stayed = [c for c in self.comparisons if c.outcome == "stayed" and c.kind == "quality"]
        return [found for found in stayed if found.base != found.new]

    @property
    def incomparable(self) -> dict[str, int]:
        """How many numbers could not be compared, by reason."""
        return dict(Counter(c.note for c in self.comparisons if c.outcome == "incomparable"))

    @property
    def summary(self) -> list[str]:
        """A line for each class, and the last for the verdict."""
        lines = []
        for kind in ("case", "exact", "quality", "time"):
            counted = Counter(c.outcome for c in self.comparisons if c.kind == kind)
            if counted:
                said = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counted.items()))
                lines.append(f"{kind}: {said}")
        lines += [f"{n} not comparable: {why}" for why, n in self.incomparable.items()]
        number = len(self.failures)
        passed = (
            "passed" if any(map(_judged, self.comparisons)) else "passed, but nothing was judged"
        )
        lines.append(f"FAILED: {number} failure{'s' * (number > 1)}" if number else passed)
        return lines


def _judged(found: Comparison) -> bool:
    """Whether a number was compared with another."""
    return found.kind != "case" and found.outcome not in ("unjudged", "incomparable")
