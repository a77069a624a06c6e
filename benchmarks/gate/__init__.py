"""The gate: two results compared in three classes, exact counts, qualities and times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.gate import cases, exact, quality, sides, times
from benchmarks.gate.comparison import Verdict

FACTOR = 1.1  # by which a time may grow


def compare(base: Path, new: Path, *, factor: float = FACTOR, allow: Sequence[str] = ()) -> Verdict:
    """Compare two results; ValueError where they cannot be compared.

    ``factor`` is what a time may grow by, ``allow`` patterns of labels of cases that may vanish.
    """
    if factor < 1:
        raise ValueError(f"a factor below one makes no time worse: got {factor:g}")
    old, latest = sides.read(base), sides.read(new)
    sides.comparable(old, latest)
    before, after = sides.entries(old, latest)
    done = [
        {key: entry for key, entry in side.items() if entry.status == "done"}
        for side in (before, after)
    ]
    pairs = [(entry, done[1][key]) for key, entry in done[0].items() if key in done[1]]
    found = [
        *cases.judge(before, after, allow),
        *exact.judge(pairs),
        *quality.judge(done[0].values(), done[1].values()),
        *times.judge(pairs, factor),
    ]
    return Verdict(str(base), str(new), factor, tuple(found), tuple(after.values()))
