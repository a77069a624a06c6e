"""How cost grows with D: degrees of exact counts, laws of times, and where they cross."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import scaling_law
from benchmarks.exhibit import Table

SIZES = 4  # that a law needs
TAIL = 5  # largest sizes of which counts are of a polynomial, at least: enough for one of degree 3


def growth(done: pd.DataFrame, calls: Mapping[str, str]) -> Table:
    """A row for each series: how the calls' FLOPs and seconds grow at its largest dimension."""
    rows = []
    for name, group in done.groupby("series"):
        row: dict[str, Any] = {"Flow": name, "D": int(group["dim"].max())}
        for call, title in calls.items():
            known = group[group[f"{call}_flops"].notna()]
            if known["dim"].nunique() >= SIZES:
                row[f"{title}: FLOPs"] = _degree(known, call)
                if f"{call}_seconds" in known:
                    row[f"{title}: seconds"] = _law(known, call, row[f"{title}: FLOPs"])
        if len(row) > 2:
            rows.append(row)
    note = (
        "FLOPs: the degree in D of the polynomial that the exact counts are of, those of the "
        "smallest D aside where it takes that (– for none), and in parentheses d ln cost / d ln D "
        "at the largest D. Seconds: that exponent of the fitted law with its 95 % interval, which "
        "counts the noise of the samples and a drift of each size; ≥ where the leading term is "
        "below half, or of a lower degree than that of the FLOPs, or where no polynomial fits: "
        "the asymptote is not reached. A break is a size "
        "from which all times differ by a factor; the law is that of the larger ones."
    )
    return Table(
        "cost-growth",
        "Growth with the dimension",
        note,
        pd.DataFrame(rows),
        records=tuple(done["key"]),
    )


def _degree(known: pd.DataFrame, call: str) -> str:
    """Of exact counts per batch: degree and local exponent.

    Of all sizes, or of the larger ones: a factorisation of an H x D matrix has one polynomial
    where D < H and another where D > H.
    """
    known = known.drop_duplicates("dim")  # seeds have equal counts
    sizes, counts = list(known["dim"]), [int(value) for value in known[f"{call}_flops"]]
    for start in range(max(1, len(sizes) - TAIL + 1)):
        try:
            c = scaling_law.exact_polynomial(sizes[start:], counts[start:])
        except ValueError:
            continue
        parts = [float(coefficient * sizes[-1] ** power) for power, coefficient in enumerate(c)]
        exponent = sum(power * part for power, part in enumerate(parts)) / sum(parts)
        return f"{len(c) - 1} ({exponent:.2f})"
    (low, high), (before, after) = sizes[-2:], counts[-2:]
    return f"– ({np.log(after / before) / np.log(high / low):.2f})"


def _law(known: pd.DataFrame, call: str, degree: str) -> str:
    """The law of the seconds; a lower bound too where the FLOPs are of a higher ``degree``."""
    samples = known.groupby("dim")[f"{call}_seconds.values"].agg(
        lambda lists: list(itertools.chain.from_iterable(lists))
    )
    law = scaling_law.fit(list(samples.index), list(samples))
    told = str(law)
    if law.asymptotic and degree[0].isdigit() and law.degree < int(degree.split()[0]):
        told = f"≥ {told}"
    return f"{told}{''.join(f', break at {size:g}' for size in law.breaks)}"


def crossings(done: pd.DataFrame, calls: Mapping[str, str]) -> Table:
    """A row for each pair of different degrees: from which D on the lower one is cheaper."""
    degrees = {}
    for name, group in done.groupby("series"):
        known = group[group["log_prob_flops"].notna()]
        if known["dim"].nunique() >= SIZES:
            degrees[name] = _degree(known, "log_prob").split(" ")[0]
    rows = []
    for first, second in itertools.combinations(degrees, 2):
        flat, steep = sorted((first, second), key=lambda name: degrees[name])
        if degrees[flat] == degrees[steep] or "–" in (degrees[flat], degrees[steep]):
            continue
        row: dict[str, Any] = {"Cheaper": flat, "than": steep}
        for call, title in calls.items():
            for metric, unit in (("flops", "FLOPs"), ("seconds", "seconds")):
                if f"{call}_{metric}" in done:
                    one, other = (done[done["series"] == name] for name in (flat, steep))
                    row[f"{title}: {unit}"] = crossing(one, other, f"{call}_{metric}")
        rows.append(row)
    note = (
        "The dimension from which on the first costs less per sample than the second, at all "
        "larger ones that were measured; interpolated between two of them on logarithmic axes. "
        "Pairs whose log_prob is of different degree in D."
    )
    return Table(
        "cost-crossings",
        "Where one becomes cheaper than another",
        note,
        pd.DataFrame(rows),
        records=tuple(done["key"]),
    )


def crossing(flat: pd.DataFrame, steep: pd.DataFrame, metric: str) -> str:
    """From which D on ``flat`` is the cheaper one: "all", "D ≥ 37" or "none in range"."""
    sides = [(side[metric] / side["batch"]).groupby(side["dim"]).median() for side in (flat, steep)]
    both = pd.concat(sides, axis=1, keys=["flat", "steep"]).dropna()
    if both.empty:
        return "–"
    gap = np.log(np.asarray(both["flat"] / both["steep"], dtype=float))
    dims = np.log(np.asarray(both.index, dtype=float))
    if gap[-1] >= 0:
        return "none in range"
    dearer = np.flatnonzero(gap >= 0)
    if not len(dearer):
        return "all"
    at = dearer[-1]
    share = gap[at] / (gap[at] - gap[at + 1])
    return f"D ≥ {np.exp(dims[at] + share * (dims[at + 1] - dims[at])):.0f}"
