"""Compare two results in four classes: cases, exact counts, qualities and times."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy

from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.inference import Estimate, holm, of_repetitions, of_samples
from benchmarks.core.formats import number, with_error
from benchmarks.core.frame import NOISY, REFERENCE, spread
from benchmarks.core.metrics import Metric
from benchmarks.execution.versions import standing
from benchmarks.gate import baseline, sources
from benchmarks.gate.baseline import is_guarded, is_same
from benchmarks.gate.sources import Entry, grouped
from benchmarks.gate.verdict import Comparison, Outcome, Verdict

FACTOR = 1.1  # by which a time may grow
SINGLE = 50  # the worst seed of several fails at 1 / 50 of the level: of ten seeds one collapses
COUNTED = ("", "NFE", "FLOP", "op", "B")  # units of metrics whose whole values are counts
Pair = tuple[Entry, Entry]
BySeed = Mapping[str, float]


def compare(base: Path, new: Path, *, factor: float = FACTOR, allow: Sequence[str] = ()) -> Verdict:
    """Compare two results; ValueError if they cannot be compared.

    ``factor`` is what a time may grow by, ``allow`` patterns of labels of cases that may vanish, or
    be worse in a quality that cannot be judged.
    """
    if not 1 <= factor < math.inf:
        raise ValueError(f"a time may grow by a finite factor of 1 or more: got {factor:g}")
    sides = sources.read(base), sources.read(new)
    sources.check_comparable(*sides)
    before, after = sources.entries(*sides)
    guarded = {
        key: (entry.label, entry.record, other.record)
        for key, entry in before.items()
        if (other := after.get(key)) and is_guarded(entry.record) and is_guarded(other.record)
    }
    done, done_now = (
        {key: e for key, e in side.items() if e.status == "done" and key not in guarded}
        for side in (before, after)
    )
    pairs = [(done[key], done_now[key]) for key in done if key in done_now]
    reasons = Counter(standing(record).reason for record in sides[1].records)
    return Verdict(
        base=str(base),
        new=str(new),
        factor=factor,
        comparisons=(
            *judge_cases(before, after, allow),
            *baseline.judge(guarded.values()),
            *judge_counts(pairs),
            *judge_qualities(done.values(), done_now.values(), allow),
            *judge_times(pairs, factor),
        ),
        measured=tuple(after.values()),
        raised=baseline.movers(guarded.values()),
        moves=tuple(baseline.headlines(guarded.values())),
        aged={reason: count for reason, count in reasons.items() if reason},
    )


def judge_cases(
    before: Mapping[str, Entry], after: Mapping[str, Entry], allow: Sequence[str]
) -> Iterator[Comparison]:
    """Compare the cases and which metrics they have; one that was renamed vanished and appeared."""
    for key, entry in {**before, **after}.items():
        case = Comparison(entry.label, "", "case", "stayed")
        failed = replace(case, outcome="failed", fails=True)
        vanished = replace(failed, outcome="vanished")
        if is_allowed(entry.label, allow):
            vanished = replace(vanished, fails=False, note="allowed")
        old, new = before.get(key), after.get(key)
        if new is None:
            yield vanished
        elif new.status != "done":
            if old is not None and old.status != "done":
                yield replace(case, note=f"{new.status} before and now")
            else:
                yield replace(failed, note=": ".join(filter(None, (new.status, new.reason))))
        elif old is None or old.status != "done":
            note = f"was {old.status} before" if old is not None else ""
            yield replace(case, outcome="appeared", note=note)
        else:
            yield case
            for name in sorted(old.metrics):
                if name not in new.metrics:
                    yield replace(vanished, metric=name)
                elif note := _damage(old, new, name):
                    yield replace(failed, metric=name, note=note)


def is_allowed(label: str, patterns: Iterable[str]) -> bool:
    return any(label == pattern or fnmatch(label, pattern) for pattern in patterns)


def _damage(old: Entry, new: Entry, name: str) -> str:
    """Why the values of a metric cannot be judged any more; empty if they can, or never could."""
    before, after = (entry.metrics[name].values for entry in (old, new))
    if not after and before:
        return "it has no values now"
    if new.kind(name) == "quality" and len(before) != len(after):
        return f"it has {len(after)} values now in place of {len(before)}"
    same = new.kind(name) == "time" or np.array_equal(before, after, equal_nan=True)
    if _is_sound(new, name) or (same and not _is_sound(old, name)):
        return ""
    return f"its values are not all {'above zero' if new.kind(name) == 'time' else 'numbers'} now"


def _is_sound(entry: Entry, name: str) -> bool:
    """Whether a metric has values, and each is a number; a time or rate is above zero."""
    values, least = entry.metrics[name].values, 0.0 if entry.kind(name) == "time" else -math.inf
    return bool(values) and all(least < value < math.inf for value in values)


def judge_counts(pairs: Iterable[Pair]) -> Iterator[Comparison]:
    """Compare every exact count that both results have: equal, or the gate fails.

    One that is better fails too, or a later change could lose it unseen: renew the baseline.
    """
    for before, after in pairs:
        for name, old in before.metrics.items():
            new = after.metrics.get(name)
            if before.kind(name) != "exact" or new is None:
                continue
            unit, medians = old.metric.unit, (old.median, new.median)
            count = Comparison(before.label, name, "exact", "stayed", False, unit, *medians)
            if np.array_equal(old.values, new.values, equal_nan=True):
                yield count
                continue
            share = f" ({new.median / old.median - 1:+.2%})" if old.median else ""
            moved = replace(count, fails=True, change=f"{new.median - old.median:+,.0f}{share}")
            if (new.median < old.median) == (old.metric.better == "lower"):
                yield replace(moved, outcome="better", note="renew the baseline")
            else:
                yield replace(moved, outcome="worse")


class Test(NamedTuple):
    """New less base, its standard error, and the two-sided p-value of there being none."""

    value: float
    error: float
    p: float


def judge_qualities(
    before: Iterable[Entry], after: Iterable[Entry], allow: Sequence[str] = ()
) -> Iterator[Comparison]:
    """Compare every quality of every group of cases that differ in nothing but their seeds."""
    old, new = grouped(before), grouped(after)
    comparisons = [c for g in old if g in new for c in _qualities(g, old[g], new[g])]
    for each in _corrected(comparisons):
        if each.fails and is_allowed(each.case, allow):
            yield replace(each, fails=False, note=f"{each.note}; allowed")
        elif each.p is not None and each.p >= LEVEL:
            yield replace(each, outcome="stayed")
        else:
            yield replace(each, fails=each.fails or each.outcome == "worse")


def _qualities(label: str, before: list[Entry], after: list[Entry]) -> Iterator[Comparison]:
    """Compare a group's metrics, of several values, such as a curve, each; p is uncorrected."""
    entries = {name: entry for entry in before for name in entry.metrics}
    for name, entry in entries.items():
        metric, count = entry.metrics[name].metric, len(entry.metrics[name].values)
        if entry.kind(name) != "quality" or metric.better == "neither":
            continue
        for place in range(count):
            title = f"{name} {place + 1}" if count > 1 else name
            quality = partial(Comparison, label, title, "quality", unit=metric.unit)
            old, new = (_by_seed(side, name, place) for side in (before, after))
            if old and new:
                yield _quality(quality, metric, old, new, _by_seed(before, f"{name}_se"))


def _quality(
    quality: Callable[..., Comparison], metric: Metric, old: BySeed, new: BySeed, errors: BySeed
) -> Comparison:
    """Compare one quality over its seeds; ``errors`` are the baseline's over the test set."""
    if numbers := {seed: value for seed, value in old.items() if math.isfinite(value)}:
        new = {seed: new[seed] for seed in new if seed in numbers or seed not in old}
        old = numbers
    if min(len(old), len(new)) == 1 and (shared := old.keys() & new.keys()):
        old, new = ({seed: side[seed] for seed in shared} for side in (old, new))
    if old.keys() == new.keys() and all(is_same(old[seed], new[seed]) for seed in old):
        return quality("stayed", base=_mean(old), new=_mean(new))
    base, now, sign = _mean(old), _mean(new), 1 if metric.better == "higher" else -1
    better, quality = sign * (now - base) > 0, partial(quality, base=base, new=now)
    errors, counts = {seed: errors.get(seed, math.nan) for seed in old}, metric.unit in COUNTED
    if not (test := difference(old, new, errors, counts)):
        finite = math.isfinite(base) and math.isfinite(now)
        note = "no error of the difference is known, take more seeds" if finite else "not finite"
        fails = not better if finite else not math.isfinite(now)
        return quality("unjudged", change=number(now - base, ".3g"), note=note, fails=fails)
    p, change = behind(old, new, errors, sign, counts), with_error(test.value, test.error, ".3g")
    if p < min(LEVEL, test.p):
        return quality("worse", change=change, p=p, note="by the spread of the baseline")
    return quality("better" if better else "worse", change=change, p=test.p)


def _mean(values: BySeed) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean(list(values.values())))


def _by_seed(entries: Iterable[Entry], name: str, place: int = 0) -> dict[str, float]:
    """A metric's value at a place, of each seed that has it."""
    members = [(e.seed, e.metrics[name].values) for e in entries if name in e.metrics]
    return {seed: values[place] for seed, values in members if place < len(values)}


def behind(old: BySeed, new: BySeed, errors: BySeed, sign: int, counts: bool = False) -> float:
    """p-value of being worse by the baseline alone: what scatters now excuses nothing.

    Its error is the spread of its seeds and their ``errors`` over the test set, in squares; of
    counts at least one and a quarter of their mean, since they move in steps. The mean counts, and
    the worst seed at 1 / `SINGLE` of the level. ``sign`` is 1 if larger is better, else -1.
    """
    a, b = (sign * np.array(list(side.values()), dtype=float) for side in (old, new))
    if len(a) < 2:
        return 1.0
    error = math.hypot(*(e for e in errors.values() if e < math.inf)) / math.sqrt(len(a))
    spread, freedom = math.hypot(float(a.std(ddof=1)), error), len(a) - 1.0
    if counts and not np.any(a % 1) and spread < (least := math.hypot(1.0, a.mean() / 4)):
        spread, freedom = least, math.inf
    mean = Estimate(a.mean() - b.mean(), spread * math.sqrt(1 / len(a) + 1 / len(b)), freedom)
    worst = Estimate(a.mean() - b.min(), spread * math.sqrt(1 + 1 / len(a)), freedom)
    tests = ((mean, 1), (worst, SINGLE * len(b)))
    return min(min(1.0, times * test.p) if test.value > 0 else 1.0 for test, times in tests)


def difference(old: BySeed, new: BySeed, errors: BySeed, counts: bool = False) -> Test | None:
    """Test the difference of two means over seeds; None if no test can.

    Seeds are compared in pairs if both results have the same ones, else by Welch's test. With a
    single seed each, ``errors`` has the baseline's standard error over the test set. Counts, which
    take few values, are ranked instead (Wilcoxon; Mann and Whitney) if there are enough of them for
    ranks to tell anything. Fewer that all moved by one step of the solver have no spread and prove
    nothing.
    """
    a, b = (np.array(list(side.values()), dtype=float) for side in (old, new))
    if not np.isfinite([*a, *b]).all():
        return None
    counts, several = counts and not np.any(np.concatenate([a, b]) % 1), min(len(a), len(b)) > 1
    paired = several and old.keys() == new.keys()
    moves = np.array([new[seed] - old[seed] for seed in old]) if paired else b
    with np.errstate(over="ignore", invalid="ignore"):
        if several:
            estimate = of_repetitions(moves) if paired else of_samples(b, a)
        else:
            error = math.sqrt(2) * next(iter(errors.values())) if len(a) == len(b) else math.nan
            estimate = Estimate(float(b.mean() - a.mean()), error or math.nan, math.inf)
    p = estimate.p
    if counts and paired and 2 / 2 ** np.count_nonzero(moves) < LEVEL:
        p = float(scipy.stats.wilcoxon(moves).pvalue)
    elif counts and several and not paired and 2 / math.comb(len(a) + len(b), len(b)) < LEVEL:
        p = float(scipy.stats.mannwhitneyu(a, b).pvalue)
    elif counts and not estimate.error and np.any(moves):
        return None
    valid = np.isfinite([estimate.value, estimate.error, p]).all()
    return Test(estimate.value, estimate.error, p) if valid else None


def judge_times(pairs: Iterable[Pair], factor: float) -> Iterator[Comparison]:
    """Compare every time that both results have, in units of the reference workload.

    One is worse by a factor and by a rank test. Rates are inverted, so that more is slower. What is
    not could not have been where samples are too few for the number of tests: it is not compared.
    """
    items = [item for pair in pairs for item in _times(*pair)]
    tests = sum(each.p is not None for each, _ in items)
    for each, (_, least) in zip(_corrected(each for each, _ in items), items, strict=True):
        if each.p is None or each.base is None or each.new is None:
            yield each
            continue
        if each.p >= LEVEL and least * tests >= LEVEL:
            yield replace(each, outcome="incomparable", note=f"too few samples for {tests} tests")
            continue
        ratio = each.new / each.base
        moved = each.p < LEVEL and not 1 / factor <= ratio <= factor
        outcome: Outcome = "stayed" if not moved else "worse" if ratio > 1 else "better"
        change = f"× {ratio:.3f}"
        yield replace(each, change=change, outcome=outcome, fails=outcome == "worse")


def _times(before: Entry, after: Entry) -> Iterator[tuple[Comparison, float]]:
    """Each time that both results have, and the least p that its samples may have."""
    for name, values in before.metrics.items():
        judged = before.kind(name) == "time" and values.metric.better != "neither"
        if not judged or name not in after.metrics:
            continue
        time = partial(Comparison, before.label, name, "time", unit="reference")
        old, new = before.relative(name), after.relative(name)
        if old is None or new is None:
            yield time("incomparable", note="no reference workload beside it"), 1.0
        elif note := _incomparable(before, after, old, new):
            yield time("incomparable", note=note), 1.0
        elif (least := _least(len(old), len(new))) >= LEVEL:
            note = f"too few samples ({len(old)} against {len(new)})"
            lost = _least(*[max(len(old), len(new))] * 2) < LEVEL
            yield time("unjudged" if lost else "incomparable", note=note, fails=lost), least
        else:
            p = float(scipy.stats.mannwhitneyu(old, new).pvalue)
            yield time("stayed", base=float(np.median(old)), new=float(np.median(new)), p=p), least


def _incomparable(before: Entry, after: Entry, old: np.ndarray, new: np.ndarray) -> str:
    """Why relative times cannot be compared; empty if they can."""
    if not np.isfinite([*old, *new]).all():
        return "not all finite"
    if not before.place or not after.place:
        return "the machine is not known"
    if before.place != after.place:
        return f"another machine or number of threads ({before.place} against {after.place})"
    if max(spread(entry.metrics[REFERENCE].values) for entry in (before, after)) > NOISY:
        return "the machine was too noisy, by the reference workload"
    return ""


@cache
def _least(one: int, other: int) -> float:
    """The least p of so many samples of two sides: where they do not overlap."""
    sides = range(one), range(one, one + other)
    return float(scipy.stats.mannwhitneyu(*sides).pvalue) if one and other else 1.0


def _corrected(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Correct the p-values of those that were tested for their number."""
    items = list(comparisons)
    adjusted = iter(holm([each.p for each in items if each.p is not None]))
    return [each if each.p is None else replace(each, p=next(adjusted)) for each in items]
