"""Evaluations of a solver against the dimension, and what a density costs by them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.inference import Estimate, of_line
from benchmarks.analysis.polynomials import tail_polynomial
from benchmarks.core.naming import series

FEWEST = 3  # dimensions of a family of data sets


class Total(NamedTuple):
    """A series: its records, and by D its "flops" per row and "nfe", 0 without an ODE."""

    name: str
    records: pd.DataFrame
    costs: pd.DataFrame


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The cases with the "family" of their data, and a "series" that is named within that family.

    A family is data of one name but for the number at its end: patches of all sizes, say. What a
    flow has on one family alone, such as a number of updates, is no part of its name.
    """
    data = frame["dataset"].astype(str).str.replace(r"_?\d+$", "", regex=True)
    parts = [group.assign(series=series(group)) for _, group in frame.groupby(data)]
    return frame.assign(family=data, series=pd.concat(parts)["series"])


def families(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Done cases by series and family of data sets, of those that have enough dimensions.

    A name is that of a series and of its family, which `parts_of` gives.
    """
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

    None where too few dimensions have them all, which old records may lack.
    """
    if not {*metrics} <= set(group):
        return None
    logs = group[list(metrics)].apply(np.log).mean(axis=1, skipna=False)
    means = logs.groupby(group["dim"]).mean().dropna()
    if len(means) < FEWEST:
        return None
    return of_line(np.log(means.index.to_numpy(dtype=float)), means.to_numpy())


def totals(frame: pd.DataFrame) -> tuple[list[Total], list[Total]]:
    """The series with an ODE of the study nfe, and those without one of the study cost.

    Either is empty where the records have none, as old ones.
    """
    if not {"solve_nfe", "log_prob_flops"} <= set(frame):
        return [], []
    nfe = frame[(frame["study"] == "nfe") & frame["solve_flops"].notna()]
    cost = frame[(frame["study"] == "cost") & (frame["status"] == "done")]
    solved = [Total(name, group, _means(group)) for name, group in families(nfe).items()]
    return solved, list(_direct(cost[cost["log_prob_nfe"] == 0], dims(solved)))


def dims(of: Sequence[Total]) -> list[int]:
    """The dimensions that any of these has."""
    return sorted({int(dim) for total in of for dim in total.costs.index})


def gap(one: Total, other: Total) -> pd.Series:
    """ln of the FLOPs of one over those of the other, by D."""
    return pd.Series(np.log(one.costs["flops"] / other.costs["flops"])).dropna()


def _means(group: pd.DataFrame) -> pd.DataFrame:
    means = group.groupby("dim")[["solve_flops", "solve_nfe"]].mean()
    return means.set_axis(["flops", "nfe"], axis="columns")


def _direct(cost: pd.DataFrame, dims: Sequence[int]) -> Iterator[Total]:
    """The series at those of ``dims`` that their counts tell of, and beyond by a polynomial."""
    along = sizes.scans(cost[cost["log_prob_flops"] > 0])
    for name, group in along.groupby("series") if len(along) else ():
        known = group.drop_duplicates("dim")  # seeds have equal counts
        x, counts = known["dim"].tolist(), known["log_prob_flops"].tolist()
        outside = {"left": np.nan, "right": np.nan}
        flops = np.exp(np.interp(np.log(dims), np.log(x), np.log(counts), **outside))
        with suppress(ValueError):  # of no polynomial
            start, c = tail_polynomial(x, [int(count) for count in counts])
            exact = [float(sum(a * d**k for k, a in enumerate(c))) for d in dims]
            flops = np.where(np.asarray(dims) < start, flops, exact)
        flops /= known["batch"].iloc[0]
        costs = pd.DataFrame({"flops": flops, "nfe": 0.0}, index=list(dims)).dropna()
        if len(costs):
            yield Total(str(name), group, costs)
