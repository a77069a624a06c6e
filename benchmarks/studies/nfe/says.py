"""What the records of the nfe study say: growth with D at equal fit, NFE at the largest D."""

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
    """NFE of each series at the largest dimension at which it got there, fewest first."""
    values = []
    for fit in every:
        rows = fit.rows[np.isfinite(fit.rows["update"])]
        if len(rows):
            dim, loosest = rows["dim"].max(), fit.tolerances[0]
            nfe = float(rows.loc[rows["dim"] == dim, loosest].mean())
            values.append((nfe, f"{number(nfe, '.0f')} ({fit.name} at D = {dim}, {loosest})"))
    parts = [text for _, text in sorted(values)]
    what = "NFE of a density there, at the largest dimension and the loosest tolerance"
    return f"{what}: {listed(parts)}." if parts else ""


def _short(every: list[Fit]) -> str:
    """The series of which some training never got there."""
    parts = []
    for fit in every:
        there = np.isfinite(fit.rows["update"])
        if not there.all():
            parts.append(f"{fit.name} ({(~there).sum()} of {len(there)} trainings)")
    return f"Never closed {SHARE:.0%} of the gap: {listed(parts)}." if parts else ""
