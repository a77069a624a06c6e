"""Exact counts: equal, or the gate fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from benchmarks.gate.comparison import Comparison
from benchmarks.gate.sources import Entry


def judge(pairs: Iterable[tuple[Entry, Entry]]) -> Iterator[Comparison]:
    """Compare every exact count that both results have.

    One that is better fails too: it has to be taken into the baseline on purpose, or the next
    change could lose it unseen.
    """
    for before, after in pairs:
        for name, old in before.metrics.items():
            new = after.metrics.get(name)
            if before.kind(name) != "exact" or new is None:
                continue
            base, now = old.median, new.median
            same = np.array_equal(old.values, new.values, equal_nan=True)
            better = (now < base) == (old.better == "lower")
            yield Comparison(
                case=before.label,
                metric=name,
                kind="exact",
                outcome="stayed" if same else "better" if better else "worse",
                fails=not same,
                unit=old.unit,
                base=base,
                new=now,
                change="" if same else _change(base, now),
                note="renew the baseline" if better and not same else "",
            )


def _change(base: float, new: float) -> str:
    share = f" ({new / base - 1:+.2%})" if base else ""
    return f"{new - base:+,.0f}{share}"
