"""The number of evaluations L' is a factor that does not depend on D."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.analysis.inference import Estimate, Standing, standings
from benchmarks.analysis.nfe import Total, families, fits, growth, parts_of, totals
from benchmarks.claims import NotMeasured, Verdict, done, keys, outcome, register
from benchmarks.claims.examples import made_up
from benchmarks.core.exhibit import scientific
from benchmarks.core.formats import number

# Whether NFE do not grow, the claim as an upper bound; and whether they do not fall either.
BOUND: dict[Standing, bool | None] = {"level": True, "behind": True, "ahead": False, "open": None}
TIGHT: dict[Standing, bool | None] = {**BOUND, "behind": False}
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


def example(slope: float, scatter: float = 0.0) -> pd.DataFrame:
    """Evaluations of two families that grow with D to this power, up to a relative scatter."""
    trainings = {
        "flow": ["cnf", "ffjord"],
        "dim": [2, 4, 8, 16, 32, 64],
        "dataset": lambda row: f"gaussian_{row['dim']}",
        "option.hidden": 64,
        "updates": 500,
        "nfe_end": lambda row: (
            20 * row["dim"] ** slope * (1 + scatter * (-1) ** row["dim"].bit_length())
        ),
    }
    return made_up("nfe", trainings)


def example_at_equal_fit(*slopes: float) -> pd.DataFrame:
    """Evaluations that grow with D to these powers, one a tolerance, where 0.9 of a gap is closed.

    The gap is closed half way through the training; what follows grows with D, whatever they are.
    """
    shares = np.array([0.0, 0.5, 0.9, 1.0])

    def curves(row: dict[str, Any]) -> dict[str, np.ndarray]:
        growth = np.array([row["dim"] ** slope for slope in slopes])
        nfe = 20 * np.outer(1 + shares, growth)
        nfe[-1] *= row["dim"]
        updates = np.arange(4) * 100
        axes = {"updates": updates, "validated": updates, "validation_ll": shares - row["dim"]}
        return {**axes, "nfe": nfe, "tolerances": 10.0 ** -np.arange(3, 3 + len(slopes))}

    trainings = {
        "flow": ["cnf", "ffjord"],
        "dim": [2, 4, 8, 16, 32, 64],
        "dataset": lambda row: f"mixture_{row['dim']}",
        "option.hidden": 64,
        "nfe_end": lambda row: 40.0 * row["dim"],
        "gaussian_ll": lambda row: float(-row["dim"]),
        "val_ll": lambda row: 1.0 - row["dim"],
        "truth_ll": lambda row: 1.0 - row["dim"],
        "arrays": curves,
    }
    return made_up("nfe", trainings)


@register(
    "cost-in-total",
    page=9,
    item=5,
    slide="FFJORD Performance: Time complexity",
    statement="The number L' of evaluations of f is a separate factor that does not depend on D: "
    "the total O((DH + D) L') grows with D as DH + D does.",
    studies=("nfe", "cost"),
    suite="evaluations",
    exhibits=(
        "nfe-equal-fit",
        "nfe-equal-fit-growth",
        "nfe-against-dimension",
        "nfe-totals",
        "nfe-growth",
    ),
    examples=[
        ("confirmed", partial(example, 0.0)),
        ("refuted", partial(example, 1.0)),
        ("conditional", partial(example, -0.5)),
        ("undecided", partial(example, 0.2, scatter=0.3)),
        ("confirmed", partial(example_at_equal_fit, 0.0, 0.0)),
        ("refuted", partial(example_at_equal_fit, 0.5, 1.0)),
        ("conditional", partial(example_at_equal_fit, -0.5, 0.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The slope of each series, at equal fit where that is known, and totals at the largest D."""
    rows = done(frame, "nfe", "nfe_end")
    if not (slopes := _slopes(rows)):
        raise NotMeasured("evaluations after training at three dimensions or more")
    when = "at equal fit" if fits(rows) else "after training"
    sentence = f"Read {when}, {dependence(slopes)}.{_totals(frame)}"
    holds = (reading[how] for reading in (BOUND, TIGHT) for how in stands(slopes).values())
    return Verdict(outcome(holds), sentence, keys(*families(rows).values()))


def _slopes(rows: pd.DataFrame) -> dict[str, Estimate]:
    """The slope of each series, over all tolerances at equal fit, else after training."""
    if every := fits(rows):
        slopes = {fit.name: fit.growth() for fit in every}
    else:
        slopes = {name: growth(group, "nfe_end") for name, group in families(rows).items()}
    return {name: slope for name, slope in slopes.items() if slope}


def _totals(frame: pd.DataFrame) -> str:
    """The least total of either kind at the largest common dimension; "" without the cost study."""
    solved, direct = ([t for t in kind if _fixed(t)] for kind in totals(frame))
    if not (solved and direct):
        return ""
    dims = [set.intersection(*(set(t.costs.index) for t in kind)) for kind in (solved, direct)]
    if not (common := set.intersection(*dims)):
        return ""
    dim = max(common)
    ends = [min(kind, key=lambda t: t.costs.loc[dim, "flops"]) for kind in (solved, direct)]
    one, other = (f"{scientific(t.costs.loc[dim, 'flops'])} ({t.name})" for t in ends)
    return (
        f" After training, at D = {dim}, the largest that flows of fixed width share, a density "
        f"takes {one} FLOPs at least, without an ODE {other}."
    )


def _fixed(total: Total) -> bool:
    """Whether the width of a series does not follow D."""
    return bool(total.records.get("setting.hidden_per_dim", pd.Series()).isna().all())


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
