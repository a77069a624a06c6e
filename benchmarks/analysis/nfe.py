"""Evaluations of a solver: against the dimension, at equal fit, and what a density costs by them.

A field that is trained longer, or fits better, takes more evaluations; so flows and dimensions are
compared where each has closed `SHARE` of the gap between a Gaussian and the truth. Where the truth
is not known, the best likelihood of all trainings on the data set and split stands for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.polynomial.polynomial import polyval

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import tail_polynomial
from benchmarks.analysis.improvement import cost_at
from benchmarks.analysis.inference import Estimate, of_line
from benchmarks.core.naming import series
from benchmarks.core.store import arrays

FEWEST = 3  # dimensions of a family of data sets
SHARE = 0.9


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the "family" of each case's data, and a "series" that is named within that family.

    A family is data of one name but for the number at its end: patches of all sizes, say.
    """
    data = frame["dataset"].astype(str).str.replace(r"_?\d+$", "", regex=True)
    names = [pd.Series(series(group), group.index) for _, group in frame.groupby(data)]
    return frame.assign(family=data, series=pd.concat(names))


def families(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Done cases at enough dimensions, by the name of their series and family (`parts_of`)."""
    done = frame[frame["status"] == "done"] if len(frame) else frame
    if done.empty:
        return {}
    done = named(done)
    names = done["series"] + ", " + done["family"]
    groups = {str(name): group.sort_values("dim") for name, group in done.groupby(names)}
    return {name: group for name, group in groups.items() if group["dim"].nunique() >= FEWEST}


def parts_of(name: str) -> tuple[str, str]:
    """The series and the family of data sets in a name of `families`."""
    series_name, _, family = name.rpartition(", ")
    return series_name, family


def growth(group: pd.DataFrame, *metrics: str) -> Estimate | None:
    """Slope in ln D of the mean logarithm of the metrics, over means of the seeds.

    None where too few dimensions have them all.
    """
    if not {*metrics} <= set(group):
        return None
    logs = group[list(metrics)].apply(np.log).mean(axis=1, skipna=False)
    means = logs.groupby(group["dim"]).mean().dropna()
    if len(means) < FEWEST:
        return None
    return of_line(np.log(means.index.to_numpy(dtype=float)), means.to_numpy())


# ---- at equal fit -------------------------------------------------------------------------------


class Fit(NamedTuple):
    """A series over D at equal fit.

    Columns of the rows: "dim", "seed", "key", "share" of the gap at the end, "update" at which
    `SHARE` was reached, infinite if never, and NFE there by tolerance, NaN then.
    """

    name: str
    rows: pd.DataFrame  # one a training
    tolerances: tuple[str, ...]  # their names

    @property
    def flow(self) -> str:
        """The name without that of the data."""
        return parts_of(self.name)[0]

    def growth(self, *tolerances: str) -> Estimate | None:
        """Slope of ln NFE in ln D, of the mean over tolerances; None below three dimensions."""
        return growth(self.rows, *tolerances or self.tolerances)


def fits(frame: pd.DataFrame) -> list[Fit]:
    """Each series of the study nfe whose data leaves a gap above a Gaussian, at equal fit."""
    if not {"gaussian_ll", "val_ll"} <= set(frame):
        return []
    measured = frame[["gaussian_ll", "arrays"]].notna().all(axis=1)
    rows = frame[(frame["study"] == "nfe") & measured]
    best = rows.groupby(["dataset", "seed"])["val_ll"].transform("max")
    truth = rows["truth_ll"] if "truth_ll" in rows else pd.Series(np.nan, rows.index)
    every = []
    for name, group in families(rows.assign(top=truth.fillna(best))).items():
        trainings = pd.DataFrame(list(_trainings(group)))
        names = {str(name) for name in trainings} - {"dim", "seed", "key", "share", "update"}
        if len(trainings):
            every.append(Fit(name, trainings, loosest_first(names)))
    return every


def loosest_first(tolerances: Iterable[str]) -> tuple[str, ...]:
    """Names of tolerances in falling order, each once."""
    return tuple(sorted(set(tolerances), key=float, reverse=True))


def _trainings(group: pd.DataFrame) -> Iterator[dict[str, float]]:
    """A row for each training whose data leaves a gap."""
    for _, row in group.iterrows():
        gap, curves = row["top"] - row["gaussian_ll"], arrays(row)
        if gap <= 0:
            continue
        update = cost_at(curves, "validated", row["gaussian_ll"] + SHARE * gap)
        training = {name: row[name] for name in ("dim", "seed", "key")}
        training |= {"share": (row["val_ll"] - row["gaussian_ll"]) / gap, "update": update}
        for tolerance, nfe in zip(curves["tolerances"], curves["nfe"].T, strict=True):
            at = np.interp(update, curves["updates"], nfe)
            training[f"{tolerance:g}"] = at if np.isfinite(update) else np.nan
        yield training


# ---- totals of a density ------------------------------------------------------------------------


class Total(NamedTuple):
    """A series: its records, and by D its "flops" per row and "nfe", 0 without an ODE."""

    name: str
    records: pd.DataFrame
    costs: pd.DataFrame


def totals(frame: pd.DataFrame) -> tuple[list[Total], list[Total]]:
    """The series with an ODE of the study nfe, and those without one of the study cost."""
    if not {"solve_nfe", "log_prob_flops"} <= set(frame):
        return [], []
    nfe = frame[(frame["study"] == "nfe") & frame["solve_flops"].notna()]
    cost = frame[(frame["study"] == "cost") & (frame["status"] == "done")]
    solved = []
    for name, group in families(nfe).items():
        means = group.groupby("dim")[["solve_flops", "solve_nfe"]].mean()
        solved.append(Total(name, group, means.set_axis(["flops", "nfe"], axis="columns")))
    return solved, list(_direct(cost[cost["log_prob_nfe"] == 0], dims(solved)))


def dims(of: Sequence[Total]) -> list[int]:
    """The dimensions that any of these has."""
    return sorted({int(dim) for total in of for dim in total.costs.index})


def gap(one: Total, other: Total) -> pd.Series:
    """ln of the FLOPs of one over those of the other, by D."""
    return pd.Series(np.log(one.costs["flops"] / other.costs["flops"])).dropna()


def _direct(cost: pd.DataFrame, at: Sequence[int]) -> Iterator[Total]:
    """The series at those of the dimensions within their counts, and beyond by a polynomial."""
    along = sizes.scans(cost[cost["log_prob_flops"] > 0])
    for name, group in along.groupby("series") if len(along) else ():
        counted = group.drop_duplicates("dim")  # seeds have equal counts
        x, counts = counted["dim"].tolist(), counted["log_prob_flops"].tolist()
        flops = np.exp(np.interp(np.log(at), np.log(x), np.log(counts), left=np.nan, right=np.nan))
        with suppress(ValueError):  # no polynomial fits
            start, coefficients = tail_polynomial(x, [int(count) for count in counts])
            exact = [float(polyval(dim, coefficients)) for dim in at]
            flops = np.where(np.asarray(at) < start, flops, exact)
        flops /= counted["batch"].iloc[0]
        costs = pd.DataFrame({"flops": flops, "nfe": 0.0}, index=list(at)).dropna()
        if len(costs):
            yield Total(str(name), group, costs)
