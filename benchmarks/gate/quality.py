"""Qualities: worse by more than the error of the difference can explain, or without any error."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from benchmarks.core.formats import number, with_error
from benchmarks.gate.comparison import LEVEL, Comparison, allowed, corrected
from benchmarks.gate.guard import ABSOLUTE, RELATIVE
from benchmarks.gate.sources import Entry, grouped

BySeed = Mapping[str, float]


@dataclass(frozen=True)
class Difference:
    """New less base, its standard error, and the two-sided p-value of there being none."""

    value: float
    error: float
    p: float


def judge(
    before: Iterable[Entry], after: Iterable[Entry], allow: Sequence[str] = ()
) -> Iterator[Comparison]:
    """Compare every quality of every group of cases that differ in nothing but their seeds.

    One that is worse and cannot be judged is a failure, unless its label is in ``allow``.
    """
    old, new = grouped(before), grouped(after)
    comparisons = [
        each for label in old if label in new for each in _compared(label, old[label], new[label])
    ]
    for each in corrected(comparisons):
        if each.fails and allowed(each.case, allow):
            yield replace(each, fails=False, note=f"{each.note}; allowed")
        elif each.p is None:
            yield each
        elif each.p < LEVEL:
            yield replace(each, fails=each.outcome == "worse")
        else:
            yield replace(each, outcome="stayed")


def difference(old: BySeed, new: BySeed, errors: tuple[float, float]) -> Difference | None:
    """Test the difference of two means over seeds; None where no test can.

    Equal seeds are compared in pairs where both results have the same ones, else by Welch's test.
    With a single seed each, ``errors`` are the standard errors over the test set. Counts, which
    take few values, are ranked instead (Wilcoxon; Mann and Whitney) where there are enough of them
    for ranks to tell anything. Fewer that all moved by one step of the solver have no spread, and
    prove nothing.
    """
    a, b = (np.array(list(side.values()), dtype=float) for side in (old, new))
    if not np.isfinite([*a, *b]).all():
        return None
    counts = bool((np.concatenate([a, b]) % 1 == 0).all())
    with warnings.catch_warnings():  # what has no spread, or overflows
        warnings.simplefilter("ignore", RuntimeWarning)
        value, (error, p) = float(b.mean() - a.mean()), _test(old, new, errors, counts)
    known = math.isfinite(value) and math.isfinite(error) and p == p
    return Difference(value, error, p) if known else None


def _test(
    old: BySeed, new: BySeed, errors: tuple[float, float], counts: bool
) -> tuple[float, float]:
    """The standard error of the difference of two means, and its p-value; NaN without either."""
    a, b = (np.array(list(side.values()), dtype=float) for side in (old, new))
    if old.keys() == new.keys() and len(old) > 1:
        moved = np.array([new[seed] - old[seed] for seed in old])
        error = float(scipy.stats.sem(moved))
        if not moved.any():
            return 0.0, 1.0
        if counts and 2 / 2 ** np.count_nonzero(moved) < LEVEL:
            return error, float(scipy.stats.wilcoxon(moved).pvalue)
        test = scipy.stats.ttest_1samp(moved, 0.0)
    elif min(len(a), len(b)) > 1:
        error = float(np.hypot(scipy.stats.sem(a), scipy.stats.sem(b)))
        if counts and 2 / math.comb(len(a) + len(b), len(b)) < LEVEL:
            return error, float(scipy.stats.mannwhitneyu(a, b).pvalue)
        test = scipy.stats.ttest_ind(a, b, equal_var=False)
    else:
        error = float(np.hypot(*errors)) if len(a) == len(b) == 1 else math.nan
        p = 2 * scipy.stats.norm.sf(abs(b[0] - a[0]) / error) if error > 0 else math.nan
        return error, float(p)
    return error, math.nan if counts and not error else float(test.pvalue)


def _compared(label: str, before: list[Entry], after: list[Entry]) -> Iterator[Comparison]:
    """Compare the metrics of a group, each in the direction that it moved, with p uncorrected."""
    metrics = {name: (entry, metric) for entry in before for name, metric in entry.metrics.items()}
    for name, (entry, metric) in metrics.items():
        old, new = _by_seed(before, name), _by_seed(after, name)
        if min(len(old), len(new)) == 1 and (shared := old.keys() & new.keys()):
            old, new = ({seed: side[seed] for seed in shared} for side in (old, new))
        if entry.kind(name) != "quality" or metric.better == "neither" or not old or not new:
            continue
        base, now = (float(np.mean(list(side.values()))) for side in (old, new))
        better = (now > base) == (metric.better == "higher")
        comparison = Comparison(label, name, "quality", "better" if better else "worse")
        comparison = replace(comparison, unit=metric.unit, base=base, new=now)
        companions = (_by_seed(side, f"{name}_se") for side in (before, after))
        errors = [side.get(next(iter(old)), np.nan) for side in companions]
        if old.keys() == new.keys() and all(same(old[seed], new[seed]) for seed in old):
            yield replace(comparison, outcome="stayed")
        elif result := difference(old, new, (errors[0], errors[1])):
            change = with_error(result.value, result.error, ".3g")
            yield replace(comparison, change=change, p=result.p)
        else:
            finite = bool(np.isfinite([base, now]).all())
            why = "no error of the difference is known, take more seeds" if finite else "not finite"
            change = number(now - base, ".3g")
            lost = not better if finite else not math.isfinite(now)
            yield replace(comparison, outcome="unjudged", change=change, note=why, fails=lost)


def same(old: float, new: float) -> bool:
    """Whether two values are equal but for rounding, which is another's on another machine."""
    both_none = old != old and new != new
    return both_none or math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _by_seed(entries: Iterable[Entry], name: str) -> dict[str, float]:
    """A metric's value of each seed that has it."""
    having = ((e.seed, e.metrics[name]) for e in entries if name in e.metrics)
    return {seed: metric.median for seed, metric in having if metric.values}
