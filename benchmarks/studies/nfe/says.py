"""What the records of the nfe study say: growth with D at equal fit, NFE at one D."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.equal_fit import SHARE, Fit, fits
from benchmarks.core.formats import number
from benchmarks.studies.nfe.tables import own
from benchmarks.studies.sentences import listed


def says(frame: pd.DataFrame) -> list[str]:
    """At most three sentences; none without trainings that can be read at equal fit."""
    every = fits(own(frame))
    lines = [_grow(every), _at_largest(every), _short(every)]
    return [line for line in lines if line]


def _grow(every: list[Fit]) -> str:
    """The slope of each series at its loosest tolerance."""
    parts = []
    for fit in every:
        if grown := fit.growth(fit.tolerances[0], LEVEL):
            slope, low, high = (number(value, ".2f") for value in grown)
            parts.append(f"{slope} [{low}, {high}] for {fit.name}")
    where = f"Read where {SHARE:.0%} of the gap to the best density is closed"
    return f"{where}, NFE grow as D to the power of {listed(parts)}." if parts else ""


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
