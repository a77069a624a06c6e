"""How cost grows with D: degrees of exact counts, and laws of times."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from benchmarks.analysis import scaling_law
from benchmarks.analysis.scaling_law import Law
from benchmarks.core.exhibit import RECORDS, Table

SIZES = 4  # that a law needs
ONCE = "precomputation_flops"


@dataclass(frozen=True)
class Counts:
    """How exact counts grow: degree, None for no polynomial, and exponent at the largest size."""

    degree: int | None
    exponent: float
    largest: float

    def told(self, at: str = "") -> str:
        """Degree and exponent, and ``at`` which size where that has to be said."""
        return f"{'–' if self.degree is None else self.degree} ({self.exponent:.2f}){at}"


@dataclass(frozen=True)
class Times:
    """The law of times, and whether its exponent is that of the asymptote."""

    law: Law
    reached: bool
    largest: float

    def told(self, at: str = "") -> str:
        """The exponent and its interval, ``at`` which size where that is to be said, and breaks."""
        bound = "≥ " if self.law.asymptotic and not self.reached else ""
        breaks = "".join(f", break at {size:g}" for size in self.law.breaks)
        return f"{bound}{self.law}{at}{breaks}"


def counts(group: pd.DataFrame, metric: str, by: str = "dim") -> Counts | None:
    """Of exact counts per batch, over the sizes ``by``; None for fewer than `SIZES` of them."""
    if metric not in group:
        return None
    known = group[group[metric] > 0].drop_duplicates(by).sort_values(by)  # seeds have equal counts
    if len(known) < SIZES:
        return None
    sizes, values = [int(size) for size in known[by]], [int(value) for value in known[metric]]
    try:
        _, c = scaling_law.tail_polynomial(sizes, values)
    except ValueError:
        (low, high), (before, after) = sizes[-2:], values[-2:]
        return Counts(None, float(np.log(after / before) / np.log(high / low)), high)
    parts = [float(coefficient * sizes[-1] ** power) for power, coefficient in enumerate(c)]
    exponent = sum(power * part for power, part in enumerate(parts)) / sum(parts)
    return Counts(len(c) - 1, exponent, sizes[-1])


def flops(group: pd.DataFrame, call: str) -> Counts | None:
    """Of a call's FLOPs over D; of log_prob's without what a solve makes of the weights once."""
    metric = f"{call}_flops"
    if call == "log_prob" and ONCE in group:
        group = group.assign(**{metric: group[metric] - group[ONCE].fillna(0)})
    return counts(group, metric)


def seconds(
    group: pd.DataFrame, call: str, counted: Counts | None, by: str = "dim"
) -> Times | None:
    """The law of a call's seconds; no asymptote where its FLOPs are ``counted`` steeper."""
    metric = f"{call}_seconds"
    known = group[group[metric].notna()] if metric in group else group[:0]
    if known[by].nunique() < SIZES:
        return None
    samples = known.groupby(by)[f"{metric}.values"].agg(lambda lists: list(itertools.chain(*lists)))
    law = _fitted(tuple(samples.index), tuple(map(tuple, samples)))
    steeper = counted is not None and counted.degree is not None and law.degree < counted.degree
    return Times(law, law.asymptotic and not steeper, samples.index[-1])


@lru_cache(1024)
def _fitted(sizes: tuple[float, ...], samples: tuple[tuple[float, ...], ...]) -> Law:
    """The same law for a table and a picture, fitted once."""
    return scaling_law.fit(sizes, samples)


NOTE = (
    "FLOPs: the degree in D of the polynomial that the exact counts are of, those of the smallest "
    "D aside where it takes that (– for none), and in parentheses d ln cost / d ln D at the "
    "largest D. Seconds: that exponent of the fitted law with its 95 % interval, which counts the "
    "noise of the samples and a drift of each size; ≥ where the leading term is below half, or of "
    "a lower degree than that of the FLOPs, or where no polynomial fits: the asymptote is not "
    "reached. A break is a size from which all times differ by a factor; the law is that of the "
    "larger ones. D is the largest that was counted; a cell whose sizes end before says where. "
    "Determinants of weights, as in glow, are taken once for a batch, those of Jacobians, as in "
    "dense, for each sample."
)
PARTS = {
    "precomputed: FLOPs": "Precomputed is what a solve makes of the weights once for the batch; "
    "the FLOPs of log_prob are those without it, and grow as a sample's do.",
    "linear layer: FLOPs": "Linear layer: the invertible linear layers of the flow alone, one pass "
    "of the batch with its log-determinant.",
}


def growth(done: pd.DataFrame, calls: Mapping[str, str]) -> Table:
    """A row for each series: how the calls' FLOPs and seconds grow at its largest dimension."""
    rows = []
    for name, group in done.groupby("series"):
        found: dict[str, Counts | Times | None] = {}
        for call, title in {**calls, "linear": "linear layer"}.items():
            found[f"{title}: FLOPs"] = counted = flops(group, call)
            if call == "log_prob":
                found["precomputed: FLOPs"] = counts(group, ONCE)
            found[f"{title}: seconds"] = seconds(group, call, counted)
        largest = max((grown.largest for grown in found.values() if grown), default=0)
        if largest:
            told = {header: _cell(grown, largest) for header, grown in found.items()}
            keys = {RECORDS: tuple(group["key"])}
            rows.append({"Flow": name, "D": int(largest), **told, **keys})
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")
    return Table(
        "cost-growth",
        "Growth with the dimension",
        " ".join([NOTE, *(said for header, said in PARTS.items() if header in frame)]),
        frame,
    )


def _cell(grown: Counts | Times | None, largest: float) -> str | None:
    if grown is None:
        return None
    return grown.told(f" at {grown.largest:g}" if grown.largest < largest else "")
