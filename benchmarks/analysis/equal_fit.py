"""Evaluations at equal fit: where trainings have closed one share of the gap to the best density.

A field that is trained longer, or fits better, takes more evaluations; so flows and dimensions are
compared where each has closed `SHARE` of the gap between a Gaussian and the truth. Where the truth
is not known, the best likelihood of all trainings on the data set and split stands for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analysis.inference import Estimate
from benchmarks.analysis.levels import cost_at
from benchmarks.analysis.nfe import families, growth, parts_of
from benchmarks.core.store import arrays

SHARE = 0.9


class Fit(NamedTuple):
    """A series over D at equal fit: a row for each training, and the names of its tolerances.

    Columns of the rows: "dim", "seed", "key", "share" of the gap at the end, "update" at which
    `SHARE` was reached, infinite if never, and NFE there by tolerance, NaN then.
    """

    name: str
    rows: pd.DataFrame
    tolerances: tuple[str, ...]

    @property
    def flow(self) -> str:
        """The name without that of the data."""
        return parts_of(self.name)[0]

    def growth(self, *tolerances: str) -> Estimate | None:
        """Slope of ln NFE in ln D, their mean over all tolerances where none is given.

        None below three dimensions.
        """
        return growth(self.rows, *tolerances or self.tolerances)


def fits(frame: pd.DataFrame) -> list[Fit]:
    """Each series of the study nfe over D at equal fit, of records that have a likelihood."""
    if not {"gaussian_ll", "val_ll"} <= set(frame):
        return []
    measured = frame[["gaussian_ll", "arrays"]].notna().all(axis=1)
    rows = frame[(frame["study"] == "nfe") & measured]
    return [fit for name, group in families(_with_gaps(rows)).items() if (fit := _fit(name, group))]


def by_family(every: Iterable[Fit]) -> dict[str, list[Fit]]:
    """The series of each family of data sets."""
    groups: dict[str, list[Fit]] = {}
    for fit in every:
        groups.setdefault(parts_of(fit.name)[1], []).append(fit)
    return groups


def _with_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with "top", the likelihood of the truth or the best on the same data."""
    best = rows.groupby(["dataset", "seed"])["val_ll"].transform("max")
    truth = rows["truth_ll"] if "truth_ll" in rows else pd.Series(np.nan, rows.index)
    return rows.assign(top=truth.fillna(best))


def _fit(name: str, group: pd.DataFrame) -> Fit | None:
    """A series at equal fit; None where no data of it leaves a gap above a Gaussian."""
    rows = pd.DataFrame(list(_trainings(group)))
    names = {str(name) for name in rows} - {"dim", "seed", "key", "share", "update"}
    return Fit(name, rows, loosest_first(names)) if len(rows) else None


def loosest_first(tolerances: Iterable[str]) -> tuple[str, ...]:
    """Names of tolerances in falling order, none twice."""
    return tuple(sorted(set(tolerances), key=float, reverse=True))


def _trainings(group: pd.DataFrame) -> Iterator[dict[str, float]]:
    """A row for each training whose data leaves a gap."""
    for _, row in group.iterrows():
        gap, curves = row["top"] - row["gaussian_ll"], arrays(row)
        if gap <= 0:
            continue
        level = row["gaussian_ll"] + SHARE * gap
        update = cost_at(curves, "validated", level)
        share = (row["val_ll"] - row["gaussian_ll"]) / gap
        own = {"dim": row["dim"], "seed": row["seed"], "key": row["key"]}
        own |= {"share": share, "update": update}
        for tolerance, nfe in zip(curves["tolerances"], curves["nfe"].T, strict=True):
            at = np.interp(update, curves["updates"], nfe)
            own[f"{tolerance:g}"] = at if np.isfinite(update) else np.nan
        yield own
