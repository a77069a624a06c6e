"""What the records of the nfe study say: growth with D at equal fit, NFE at one D."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.equal_fit import SHARE, Fit, fits
from benchmarks.core.formats import number
from benchmarks.core.naming import counted
from benchmarks.studies.nfe.tables import own
from benchmarks.studies.sentences import listed


def says(frame: pd.DataFrame) -> list[str]:
    """At most three sentences; none without trainings that can be read at equal fit."""
    every = fits(own(frame))
    lines = [_grow(every), _at_largest(every), _short(every)]
    return [line for line in lines if line]


def _grow(every: list[Fit]) -> str:
    """The slopes over all tolerances: those that are not 0 by their interval, ends of others.

    A slope is the power of D that NFE grow with.
    """
    slopes = {fit.name: slope for fit in every if (slope := fit.growth())}
    apart = {name: slope for name, slope in slopes.items() if slope.p < LEVEL}
    others = [slope.value for name, slope in slopes.items() if name not in apart]
    parts = []
    for name, grown in sorted(apart.items(), key=lambda item: -item[1].value):
        value, low, high = (number(v, ".2f") for v in (grown.value, *grown.interval(LEVEL)))
        parts.append(f"{value} [{low}, {high}] for {name}")
    if others:
        ends = dict.fromkeys(number(end, ".2f") for end in (min(others), max(others)))
        who = counted(len(others), "other") if parts else f"all {len(others)} series"
        parts.append(f"{' to '.join(ends)} for {who}, with 0 in the interval of each")
    where = f"Read where {SHARE:.0%} of the gap to the best density is closed"
    return f"{where}, NFE grow as D to the power of {'; '.join(parts)}." if parts else ""


def _at_largest(every: list[Fit]) -> str:
    """NFE on each family of data sets at the largest D that all series reached, fewest first."""
    families: dict[str, list[Fit]] = {}
    for fit in every:
        families.setdefault(fit.name.rpartition(", ")[2], []).append(fit)
    parts = []
    for family, fits_of in families.items():
        means = [_by_dim(fit) for fit in fits_of]
        if common := set.intersection(*(set(values.index) for values in means)):
            dim, names = max(common), [fit.name.rpartition(", ")[0] for fit in fits_of]
            order = sorted((values[dim], name) for values, name in zip(means, names, strict=True))
            words = [f"{number(nfe, '.0f')} ({name})" for nfe, name in order]
            parts.append(f"{listed(words, ', ')} on {family} at D = {dim}")
    return f"NFE of a density there, at the loosest tolerance: {'; '.join(parts)}." if parts else ""


def _by_dim(fit: Fit) -> pd.Series:
    """Mean NFE at the loosest tolerance of the trainings that got there, by D."""
    there = fit.rows[np.isfinite(fit.rows["update"])]
    means: pd.Series = there.groupby("dim")[fit.tolerances[0]].mean()
    return means


def _short(every: list[Fit]) -> str:
    """The series of which some training never got there."""
    parts = []
    for fit in every:
        there = np.isfinite(fit.rows["update"])
        if not there.all():
            parts.append(f"{fit.name} ({(~there).sum()} of {len(there)} trainings)")
    return f"Never closed {SHARE:.0%} of the gap: {listed(parts)}." if parts else ""
