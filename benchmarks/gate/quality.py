"""Qualities: worse only by more than the error of the difference can explain."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy

from benchmarks.core.formats import number, with_error
from benchmarks.gate.comparison import LEVEL, Comparison, corrected
from benchmarks.gate.sources import Entry, grouped

BySeed = Mapping[str, float]


@dataclass(frozen=True)
class Difference:
    """New less base, its standard error, and the two-sided p-value of there being none."""

    value: float
    error: float
    p: float


def judge(before: Iterable[Entry], after: Iterable[Entry]) -> Iterator[Comparison]:
    """Compare every quality of every group of cases that differ in nothing but their seeds."""
    old, new = grouped(before), grouped(after)
    comparisons = [
        each for label in old if label in new for each in _compared(label, old[label], new[label])
    ]
    for each in corrected(comparisons):
        if each.p is None:
            yield each
        elif each.p < LEVEL:
            yield replace(each, fails=each.outcome == "worse")
        else:
            yield replace(each, outcome="stayed")


def difference(old: BySeed, new: BySeed, errors: tuple[float, float]) -> Difference | None:
    """Test the difference of two means over seeds; None where its error is not known.

    Equal seeds are compared in pairs where both results have the same ones, else by Welch's test.
    With a single seed each, ``errors`` are the standard errors over the test set. Counts, which
    take few values, are ranked instead (Wilcoxon; Mann and Whitney): three seeds that all moved by
    one step of the solver prove nothing.
    """
    a, b = (np.array(list(side.values()), dtype=float) for side in (old, new))
    value = float(b.mean() - a.mean())
    if not np.isfinite([*a, *b]).all():
        return None
    counts = bool((np.concatenate([a, b]) % 1 == 0).all())
    if old.keys() == new.keys() and len(old) > 1:
        moved = np.array([new[seed] - old[seed] for seed in old])
        error = float(scipy.stats.sem(moved))
        if not moved.any():
            return Difference(0.0, 0.0, 1.0)
        with warnings.catch_warnings():  # pairs that differ by one constant have no spread
            warnings.simplefilter("ignore", RuntimeWarning)
            test = scipy.stats.wilcoxon(moved) if counts else scipy.stats.ttest_1samp(moved, 0.0)
        return Difference(value, error, float(test.pvalue))
    if min(len(a), len(b)) > 1:
        error = float(np.hypot(scipy.stats.sem(a), scipy.stats.sem(b)))
        if counts:
            return Difference(value, error, float(scipy.stats.mannwhitneyu(a, b).pvalue))
        return Difference(value, error, float(scipy.stats.ttest_ind(a, b, equal_var=False).pvalue))
    error = float(np.hypot(*errors))
    if len(a) == len(b) == 1 and np.isfinite(error) and error > 0:
        return Difference(value, error, float(2 * scipy.stats.norm.sf(abs(value) / error)))
    return None


def _compared(label: str, before: list[Entry], after: list[Entry]) -> Iterator[Comparison]:
    """Compare the metrics of a group, each in the direction that it moved, with p uncorrected."""
    for name, metric in before[0].metrics.items():
        old, new = _by_seed(before, name), _by_seed(after, name)
        if before[0].kind(name) != "quality" or metric.better == "neither" or not old or not new:
            continue
        base, now = (float(np.mean(list(side.values()))) for side in (old, new))
        better = (now > base) == (metric.better == "higher")
        comparison = Comparison(label, name, "quality", "better" if better else "worse")
        comparison = replace(comparison, unit=metric.unit, base=base, new=now)
        companions = (_by_seed(side, f"{name}_se") for side in (before, after))
        errors = [next(iter(side.values()), np.nan) for side in companions]
        result = difference(old, new, (errors[0], errors[1]))
        if old == new:
            yield replace(comparison, outcome="stayed")
        elif result is None:
            finite = np.isfinite([base, now]).all()
            why = "one seed, and no error known" if finite else "not finite"
            yield replace(
                comparison, outcome="unjudged", change=number(now - base, ".3g"), note=why
            )
        else:
            change = with_error(result.value, result.error, ".3g")
            yield replace(comparison, change=change, p=result.p)


def _by_seed(entries: Iterable[Entry], name: str) -> dict[str, float]:
    """A metric's value of each seed that has it."""
    having = ((e.seed, e.metrics[name]) for e in entries if name in e.metrics)
    return {seed: metric.median for seed, metric in having if metric.values}
