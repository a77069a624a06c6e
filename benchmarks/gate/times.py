"""Times: in units of the reference workload, worse only by a factor and by a rank test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import scipy

from benchmarks.core.frame import NOISY, REFERENCE, spread
from benchmarks.gate.comparison import LEVEL, Comparison, corrected
from benchmarks.gate.sources import Entry


def judge(pairs: Iterable[tuple[Entry, Entry]], factor: float) -> Iterator[Comparison]:
    """Compare every time that both results have; rates as their inverse, so that more is slower."""
    for each in corrected(each for pair in pairs for each in _compared(*pair)):
        if each.p is None or each.base is None or each.new is None:
            yield each
            continue
        ratio = each.new / each.base
        comparison = replace(each, change=f"× {ratio:.3f}")
        if each.p < LEVEL and ratio > factor:
            yield replace(comparison, outcome="worse", fails=True)
        elif each.p < LEVEL and ratio < 1 / factor:
            yield replace(comparison, outcome="better")
        else:
            yield comparison


def relative(entry: Entry, name: str) -> np.ndarray | None:
    """A time's samples, a rate's inverse ones, over the median of the reference workload's.

    None where either is missing; NaN where the reference workload's are no times.
    """
    metric, reference = entry.metrics[name], entry.metrics.get(REFERENCE)
    if reference is None or not reference.values or not metric.values:
        return None
    values = np.asarray(metric.values, dtype=float)
    unit = reference.median if 0 < min(reference.values) < math.inf else math.nan
    with np.errstate(divide="ignore"):  # a rate of zero
        seconds = 1 / values if metric.better == "higher" else values
    return np.asarray(seconds / unit)


def _compared(before: Entry, after: Entry) -> Iterator[Comparison]:
    for name, metric in before.metrics.items():
        if before.kind(name) != "time" or metric.better == "neither" or name not in after.metrics:
            continue
        comparison = Comparison(before.label, name, "time", "stayed", unit="reference")
        old, new = relative(before, name), relative(after, name)
        if old is None or new is None:
            yield replace(
                comparison, outcome="incomparable", note="no reference workload beside it"
            )
        elif not np.isfinite([*old, *new]).all():
            yield replace(comparison, outcome="incomparable", note="not all finite")
        elif why := _apart(before, after) or _noisy(before, after) or _few(len(old), len(new)):
            yield replace(comparison, outcome="incomparable", note=why)
        else:
            p = float(scipy.stats.mannwhitneyu(old, new).pvalue)
            yield replace(comparison, base=float(np.median(old)), new=float(np.median(new)), p=p)


def _apart(before: Entry, after: Entry) -> str:
    """Why the times of two records are not those of one machine; empty where they are."""
    if not before.place or not after.place:
        return "the machine is not known"
    if before.place != after.place:
        return f"another machine or number of threads ({before.place} against {after.place})"
    return ""


def _noisy(before: Entry, after: Entry) -> str:
    """Why times are not to be trusted: the reference workload's scatter."""
    worst = max(spread(entry.metrics[REFERENCE].values) for entry in (before, after))
    return "the machine was too noisy, by the reference workload" if worst > NOISY else ""


def _few(before: int, after: int) -> str:
    """Why no test could tell a difference, however large; empty where one could."""
    least = 2 / math.comb(before + after, after)  # the p-value of samples that do not overlap
    return "" if least < LEVEL else f"too few samples ({before} against {after})"
