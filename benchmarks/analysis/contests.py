"""Kinds of models against each other on each data set: the best of either, and which leads.

The best of a kind is chosen by validation likelihood, so that test rows compare and never choose.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.analysis import improvement
from benchmarks.analysis.criteria import UPDATES
from benchmarks.analysis.paired import Comparison, compare, gap_of
from benchmarks.core.frame import arrays_by_case
from benchmarks.core.naming import BUDGET, LABEL, is_baseline, named

EFFORT = ("validation_cpu_seconds", "validation_flops")
SPENT = ("train_flops", "train_seconds", "train_cpu_seconds")
SOURCES = ("val_ll", "arrays", "array_hashes")  # columns that tell a validation likelihood
TAKEN = (*improvement.GAINS, improvement.LAST, *SPENT)  # columns of the training of a whole budget


@dataclass(frozen=True)
class Contest:
    """The best series of two kinds on a data set, by validation, compared on its test rows."""

    data: str
    budget: float  # s, of a search; NaN without one
    one: pd.DataFrame  # the cases of the best series, one a seed
    other: pd.DataFrame
    comparison: Comparison


def kinds(done: pd.DataFrame) -> pd.Series:
    """Kind of each case: baseline, continuous (its density takes evaluations), or discrete."""
    solved = done.reindex(columns=["test_nfe", "solve_nfe"]).notna().any(axis=1)
    kind = solved.map({True: "continuous", False: "discrete"})
    return kind.where(~is_baseline(done), "baseline")


def trained(done: pd.DataFrame) -> pd.DataFrame:
    """The baselines, and the cases of `UPDATES` or more: fewer do not show what a flow can do."""
    return done[(done["updates"] >= UPDATES) | is_baseline(done)]


def lacks_logit(rows: pd.DataFrame) -> bool:
    """Whether pixels were trained on without a logit: such scores compare no families."""
    pixels = rows.get("bits_per_dim", pd.Series(dtype=float)).notna().any()
    settings = rows.get("setting.training", pd.Series(dtype=object)).dropna()
    return bool(pixels and not any("logit" in str(fit.get("preprocessing")) for fit in settings))


def contests(done: pd.DataFrame, one: pd.Series, other: pd.Series) -> list[Contest]:
    """On each data set the best series of the cases ``one`` (rows, bool) against that of ``other``.

    What a search has trained is compared at each budget that both have, the least first. A data set
    is left out where a kind has several series and the validation likelihood of one is not known.
    """
    pairs = []
    for name, group in done.groupby("dataset"):
        gap = gap_of(model for _, model in named(group).groupby("series"))
        kinds_of = [group[mask.reindex(group.index)] for mask in (one, other)]
        for budget in common_budgets(*kinds_of):
            sides = [within(side, budget) for side in kinds_of]
            every = named(pd.concat(sides))
            first, second = (best_validated(every.loc[side.index]) for side in sides)
            if first is not None and second is not None:
                lead = compare(first, second, gap=gap)
                pairs.append(Contest(str(name), budget, first, second, lead))
    return pairs


def common_budgets(*sides: pd.DataFrame) -> list[float]:
    """The budgets of a search, s, that all sides with budgets have, the least first.

    NaN alone where none is common: `within` it a side has its cases without a budget.
    """
    budgets = [side.get(BUDGET, pd.Series(np.nan, side.index)).astype(float) for side in sides]
    every = [set(values.dropna()) for values in budgets if values.notna().any()]
    common = set.intersection(*every) if every else set()
    return sorted(common) or [math.nan]


def budget_of(seconds: float, cases: pd.DataFrame) -> str:
    """ "60 s" of a search; else empty."""
    return f"{seconds:g} s" if LABEL in cases and cases[LABEL].notna().any() else ""


def within(cases: pd.DataFrame, budget: float | pd.Series) -> pd.DataFrame:
    """Cases of one data set that have kept to a budget, s, or to one for each case.

    Of what a search has trained a budget includes the smaller ones: of each seed that an entrant
    has at the budget itself this is the case of the highest validation likelihood. What it took is
    the training of the whole budget, and what more updates would gain is counted from the best.
    Cases without a budget, such as baselines, stay.
    """
    if BUDGET not in cases:
        return cases
    spent = cases[BUDGET].astype(float)
    at, searched = spent == budget, cases.get(LABEL, pd.Series(None, cases.index)).notna()
    others = cases.index[~searched & (at | spent.isna())]
    of = [name for name in ("run", LABEL, "seed", "data_seed") if name in cases]
    taken = [BUDGET, *(name for name in TAKEN if name in cases or name == improvement.LAST)]
    narrow = cases[[n for n in dict.fromkeys((*of, *taken, *SOURCES)) if n in cases]]
    group = narrow.groupby(of, observed=True).ngroup()
    longest = narrow[searched & at]
    longest = longest.assign(**{improvement.LAST: improvement.last(longest)})
    tried = narrow[searched & (spent <= budget) & group.isin(group[longest.index])]
    tried = tried.assign(validated=validations(tried), group=group[tried.index])
    tried = tried.sort_values(["validated", BUDGET], na_position="first")
    best = tried["group"].drop_duplicates(keep="last")
    final_values = longest[taken].set_axis(group[longest.index]).loc[best].set_axis(best.index)
    values = pd.concat([narrow.loc[others].reindex(columns=taken), final_values])
    return cases.loc[others.union(best.index)].assign(**values)


def best_validated(side: pd.DataFrame) -> pd.DataFrame | None:
    """The cases of the series with the highest mean validation likelihood; None if not known.

    Means are over the splits that all series have, where there are any.
    """
    if side["series"].nunique() < 2:
        return None if side.empty else side
    values = validations(side)
    if values.isna().any():
        return None
    common = side["data_seed"].isin(set.intersection(*side.groupby("series")["data_seed"].agg(set)))
    means = values[common if common.any() else values.index].groupby(side["series"]).mean()
    return side[side["series"] == means.idxmax()]


def validations(cases: pd.DataFrame) -> pd.Series:
    """Validation likelihood of each case, nats: a baseline's, or a training's best; else NaN."""
    return improvement.of_curves(cases, "val_ll", np.max)


def efforts(sides: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Cases of each side with their ``cost`` of training to what both sides reach on their split.

    The series of a side that validates best says what it reaches; cases of other splits are left
    out. By the first of `EFFORT` that each side has: FLOPs of older records. NaN without one,
    infinite where a case never comes to the level. A curve may be on fewer rows than the likelihood
    of all: the level counts from the best of each.
    """
    levels = pd.concat([reached(side) for side in sides], axis=1, join="inner").min(axis=1)
    sides = [side[side["data_seed"].isin(levels.index)] for side in sides]
    for axis in EFFORT:
        costs = []
        for side in sides:
            curves = arrays_by_case(side, improvement.CURVE, axis)
            tops = np.array([curve[improvement.CURVE].max() for curve in curves])
            spare = validations(side).to_numpy() - levels[side["data_seed"]].to_numpy()
            pairs = zip(curves, tops - spare, strict=True)
            costs.append([improvement.cost_at(curve, axis, level) for curve, level in pairs])
        if all(np.isfinite(cost).any() for cost in costs):
            return [side.assign(cost=cost) for side, cost in zip(sides, costs, strict=True)]
    return [side.assign(cost=math.nan) for side in sides]


def reached(side: pd.DataFrame) -> pd.Series:
    """Validation likelihood, nats, that each seed of the best series comes to, by split."""
    seeds = side.assign(best=validations(side)).groupby(["series", "data_seed"])["best"].min()
    return seeds.xs(str(seeds.groupby("series").mean().idxmax()))
