"""Evaluations of a solver: against the dimension, at equal fit, and what a density costs by them.

A field that is trained longer, or fits better, takes more evaluations; so flows and dimensions are
compared where each has closed `SHARE` of the gap between a Gaussian and the truth. Where the truth
is not known, the best likelihood of all trainings on the data set and split stands for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.growth import ONCE, crossing
from benchmarks.analysis.improvement import cost_at
from benchmarks.analysis.inference import Trend, of_parallel_lines
from benchmarks.core.naming import series, width_rules
from benchmarks.core.store import arrays

FEWEST = 3  # dimensions of a family of data sets
SHARE = 0.9
ALL = "all series"  # of a family of data
FREE = ("cnf", "ffjord", "rnode")  # fields of free form that are trained by likelihood
TOLERANCE = "1e-05"  # at which evaluations are those of a density's total


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
    done = named(done.drop(columns="updates"))  # how long a training was: all are at equal fit
    names = done["series"] + ", " + done["family"]
    groups = {str(name): group.sort_values("dim") for name, group in done.groupby(names)}
    return {name: group for name, group in groups.items() if group["dim"].nunique() >= FEWEST}


def parts_of(name: str) -> tuple[str, str]:
    """The series and the family of data sets in a name of `families`."""
    series_name, _, family = name.rpartition(", ")
    return series_name, family


class Fit(NamedTuple):
    """A series over D at equal fit, or several.

    Columns of the rows: "series", "dim", "seed", "key", "share" of the gap at the end, "update" at
    which `SHARE` was reached, infinite if never, and NFE there by tolerance, NaN then.
    """

    name: str
    rows: pd.DataFrame  # one a training
    tolerances: tuple[str, ...]  # their names
    kind: tuple[Any, ...] = ()  # flow, width, depth and trace of a single series

    def growth(self, *tolerances: str) -> Trend | None:
        """Slope of ln NFE in ln D, of the mean over tolerances and of the seeds' means.

        Of several series it is the slope that they share, each with its own level. None where no
        series has three dimensions.
        """
        evaluations = self.rows[list(tolerances or self.tolerances)]
        logs = evaluations.apply(np.log).mean(axis=1, skipna=False)
        means = logs.groupby([self.rows["series"], self.rows["dim"]]).mean().dropna()
        names, dims = (means.index.get_level_values(level) for level in (0, 1))
        if names.value_counts().max() < FEWEST or means.empty:
            return None
        return of_parallel_lines(np.log(dims.to_numpy(dtype=float)), means.to_numpy(), names)


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
            trainings = trainings.assign(series=parts_of(name)[0])
            every.append(Fit(name, trainings, loosest_first(names), kind_of(group)))
    return every


def pooled(fits: Sequence[Fit]) -> list[Fit]:
    """All series of each family of data as one; beside them those of `FREE` fields alone."""
    every = []
    for family in dict.fromkeys(parts_of(fit.name)[1] for fit in fits):
        alike = [fit for fit in fits if parts_of(fit.name)[1] == family]
        free = [fit for fit in alike if fit.kind[0] in FREE]
        groups = {ALL: alike} | ({", ".join(FREE): free} if 1 < len(free) < len(alike) else {})
        for words, group in groups.items():
            rows = pd.concat([fit.rows for fit in group], ignore_index=True)
            tolerances = loosest_first(t for fit in group for t in fit.tolerances)
            every.append(Fit(f"{words}, {family}", rows, tolerances))
    return every


def kind_of(rows: pd.DataFrame) -> tuple[Any, ...]:
    """Flow, width or its rule, depth and trace of a series, in whatever study."""
    first = rows.iloc[0]
    width = width_rules(rows).iloc[0] or first.get("option.hidden")
    return first["flow"], width, *(str(first.get(f"option.{name}")) for name in ("depth", "trace"))


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


class Total(NamedTuple):
    """FLOPs per row of a density by D: ``once`` for all evaluations, and of ``each``.

    Evaluations are "least", "median" and "most" of the trainings at equal fit on ``data``; those
    of the cost study where that is empty, and none without an ODE.
    """

    name: str
    data: str
    keys: tuple[str, ...]  # of records
    once: pd.Series
    each: pd.Series
    evaluations: tuple[float, ...] = (0.0, 0.0, 0.0)

    @property
    def flops(self) -> list[pd.Series]:
        """FLOPs by D at the least, the median and the most evaluations."""
        return [self.once + self.each * evaluations for evaluations in self.evaluations]

    def crossings(self, other: Self) -> list[float]:
        """The D from which on it takes fewer FLOPs than another: `crossing`, at each of `flops`."""
        ratios = ((flops / other.flops[1]).dropna() for flops in self.flops)
        return [crossing(ratio.map(np.log)) for ratio in ratios]


def totals(frame: pd.DataFrame) -> tuple[list[Total], list[Total]]:
    """Series with an ODE of the study cost at the evaluations of the study nfe; those without.

    All of a fixed width. Series of both studies are the same where flow, width, depth and trace
    are. None where no training reached an equal fit at `TOLERANCE`.
    """
    solved: list[Total] = []
    direct: list[Total] = []
    if not {"log_prob_nfe", "log_prob_flops"} <= set(frame):
        return solved, direct
    trainings = [fit for fit in fits(frame) if TOLERANCE in fit.tolerances]
    cost = frame[(frame["study"] == "cost") & (frame["status"] == "done")]
    cost = cost[(cost["log_prob_flops"] > 0) & (width_rules(cost) == "")]
    for name, group in sizes.scans(cost).groupby("series"):
        counted = group.drop_duplicates("dim").set_index("dim")  # seeds have equal counts
        evaluations, keys = counted["log_prob_nfe"].iloc[0], tuple(group["key"])
        flops = counted["log_prob_flops"] / counted["batch"]
        if evaluations == 0:
            direct.append(Total(str(name), "", keys, flops, 0 * flops))
            continue
        once = counted[ONCE].fillna(0) / counted["batch"] if ONCE in counted else 0 * flops
        total = Total(str(name), "", keys, once, (flops - once) / evaluations, (evaluations,) * 3)
        trained = [
            total._replace(
                data=parts_of(fit.name)[1],
                keys=(*keys, *fit.rows["key"]),
                evaluations=tuple(fit.rows[TOLERANCE].quantile([0, 0.5, 1])),
            )
            for fit in trainings
            if fit.kind == kind_of(group) and fit.rows[TOLERANCE].notna().any()
        ]
        solved += [total, *trained] if trained else []
    return (solved, direct) if solved and direct else ([], [])
