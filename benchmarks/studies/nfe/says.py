"""What the records of the nfe study say: growth with D at equal fit, NFE at one D."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.analysis.equal_fit import SHARE, Fit, by_family, fits
from benchmarks.analysis.inference import Estimate, Standing, standings
from benchmarks.analysis.nfe import parts_of
from benchmarks.core.formats import number
from benchmarks.studies.nfe.tables import own
from benchmarks.studies.sentences import listed

CLAIM = "cost-in-total"
LEVEL = criteria.level_of(CLAIM)
FLAT = criteria.of(CLAIM)["flat"]  # slope below which NFE do not depend on D
DEPENDENCES: dict[Standing, str] = {  # on D, by how a slope stands to 0
    "ahead": "grow",
    "behind": "fall",
    "level": "do not depend on D",
    "open": "may or may not depend on D",
}
NAMED = 4  # series that a sentence names


def says(frame: pd.DataFrame) -> list[str]:
    """At most three sentences; none without trainings that can be read at equal fit."""
    every = fits(own(frame))
    slopes = {fit.name: slope for fit in every if (slope := fit.growth())}
    where = f"Read where {SHARE:.0%} of the gap to the best density is closed, "
    grow = f"{where}{dependence(slopes)}." if slopes else ""
    lines = [grow, _at_largest(every), _short(every)]
    return [line for line in lines if line]


def stands(slopes: Mapping[str, Estimate]) -> dict[str, Standing]:
    """How the slope of ln NFE in ln D of each series stands to 0, by the criterion of the claim."""
    return standings({name: (slope, FLAT) for name, slope in slopes.items()}, LEVEL)


def dependence(slopes: Mapping[str, Estimate]) -> str:
    """For which series NFE grow with D, for which they fall, and for which neither is shown."""
    groups: dict[Standing, dict[str, Estimate]] = {}
    for name, standing in stands(slopes).items():
        groups.setdefault(standing, {})[name] = slopes[name]
    parts = [
        f"{DEPENDENCES[how]} for {_named(groups[how])}" for how in DEPENDENCES if how in groups
    ]
    return f"as powers of D with {1 - LEVEL:.0%} intervals, NFE {', '.join(parts)}"


def _named(slopes: Mapping[str, Estimate]) -> str:
    """Some series by name, each with its slope; more by number and slopes, on what data."""
    parts = []
    if len(slopes) > NAMED:
        values = pd.Series({name: slope.value for name, slope in slopes.items()})
        for data, on_data in values.groupby(lambda name: parts_of(name)[1]):
            low, high = (number(end, ".2f") for end in (on_data.min(), on_data.max()))
            parts.append(f"{len(on_data)} series on {data} ({low} to {high})")
        return " and ".join(parts)
    for name, slope in slopes.items():
        value, low, high = (number(v, ".2f") for v in (slope.value, *slope.interval(LEVEL)))
        parts.append(f"{name} ({value} [{low}, {high}])")
    return " and ".join(parts)


def _at_largest(every: list[Fit]) -> str:
    """NFE on each family of data sets at the largest D that all series reached, fewest first."""
    parts, tolerances = [], set[str]()
    for family, fits_of in by_family(every).items():
        means = {fit.flow: _by_dim(fit) for fit in fits_of}
        if common := set.intersection(*(set(values.index) for values in means.values())):
            dim = max(common)
            alike: dict[str, list[str]] = {}  # names by their NFE
            for name, values in sorted(means.items(), key=lambda item: item[1][dim]):
                alike.setdefault(number(values[dim], ".0f"), []).append(name)
            words = [f"{nfe} for {', '.join(names)}" for nfe, names in alike.items()]
            parts.append(f"on {family} at D = {dim}: {listed(words, ' and ')}")
            tolerances |= {_middle(fit) for fit in fits_of}
    at = " or ".join(sorted(tolerances, key=float))
    return f"NFE of a density there at a tolerance of {at}, {'; '.join(parts)}." if parts else ""


def _middle(fit: Fit) -> str:
    """The tolerance in the middle of those of a series."""
    return fit.tolerances[len(fit.tolerances) // 2]


def _by_dim(fit: Fit) -> pd.Series:
    """Mean NFE at the middle tolerance of the trainings that got there, by D."""
    there = fit.rows[np.isfinite(fit.rows["update"])]
    means: pd.Series = there.groupby("dim")[_middle(fit)].mean()
    return means


def _short(every: list[Fit]) -> str:
    """The series of which some training never got there."""
    parts = []
    for fit in every:
        there = np.isfinite(fit.rows["update"])
        if not there.all():
            parts.append(f"{fit.name} ({(~there).sum()} of {len(there)} trainings)")
    return f"Never closed {SHARE:.0%} of the gap: {listed(parts)}." if parts else ""
