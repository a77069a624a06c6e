"""The number of evaluations L' is a factor that does not depend on D."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis import criteria, equal_fit
from benchmarks.analysis.nfe import Total, families, growth, totals
from benchmarks.claims import NotMeasured, Outcome, Verdict, done, keys, listed, register
from benchmarks.claims.examples import made_up
from benchmarks.core.exhibit import scientific

Slope = tuple[float, float, float]  # of ln NFE in ln D, and its interval

FREE, GROWS, OPEN = "does not depend on D", "grows with D", "may or may not grow"
MOST = 4  # series that the sentence names
LEVEL = criteria.level_of("cost-in-total")
FLAT = criteria.of("cost-in-total")["flat"]  # of a slope, below which NFE does not depend on D


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
        ("conditional", partial(example, 0.2, scatter=0.3)),
        ("confirmed", partial(example_at_equal_fit, 0.0, 0.0)),
        ("refuted", partial(example_at_equal_fit, 0.5, 1.0)),
        ("conditional", partial(example_at_equal_fit, 0.0, 1.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The slope of each family, at equal fit where that is known, and totals at the largest D."""
    rows = done(frame, "nfe", "nfe_end")
    reading, measured = _slopes(rows)
    if not (slopes := {name: own for name, own in measured.items() if own}):
        raise NotMeasured("evaluations after training at three dimensions or more")
    kinds = {name: _dependence(own) for name, own in slopes.items()}
    parts = []
    for kind in (FREE, GROWS, OPEN):
        of = {name: slopes[name] for name, own in kinds.items() if own == kind}
        parts += [f"{kind} for {_named(of)}"] if of else []
    sentence = f"Read {reading}, NFE {', '.join(parts)}{_totals(frame)}."
    different = set(kinds.values())
    verdict: Outcome = "conditional"
    if different in ({FREE}, {GROWS}):
        verdict = "confirmed" if different == {FREE} else "refuted"
    return Verdict(verdict, sentence, keys(*families(rows).values()))


def _slopes(rows: pd.DataFrame) -> tuple[str, dict[str, list[Slope]]]:
    """When evaluations are read, and the slopes of each family: one, or one for each tolerance."""
    if fits := equal_fit.fits(rows):
        return "at equal fit", {
            fit.name: [grown for t in fit.tolerances if (grown := fit.growth(t, LEVEL))]
            for fit in fits
        }
    ends = {name: growth(group, "nfe_end", LEVEL) for name, group in families(rows).items()}
    return "after training", {name: [grown] for name, grown in ends.items() if grown}


def _named(of: dict[str, list[Slope]]) -> str:
    """Some series by name, each with its slopes; more than that by their number and slopes."""
    if len(of) <= MOST:
        return listed(f"{name} ({_text(slopes)})" for name, slopes in of.items())
    ends = [end(slope for slopes in of.values() for slope, *_ in slopes) for end in (min, max)]
    return "{} series (slopes of {:.2f} to {:.2f})".format(len(of), *ends).replace("-", "−")


def _text(slopes: Sequence[Slope]) -> str:
    """ "0.12 [−0.01, 0.25]", or the ends over several tolerances."""
    ends = [min(slopes), max(slopes)] if len(slopes) > 1 else slopes
    return " to ".join("{:.2f} [{:.2f}, {:.2f}]".format(*slope) for slope in ends).replace("-", "−")


def _dependence(slopes: Iterable[Slope]) -> str:
    """What intervals of slopes say together."""
    kinds = {
        FREE if low >= -FLAT and high <= FLAT else GROWS if low > 0 else OPEN
        for _, low, high in slopes
    }
    return kinds.pop() if len(kinds) == 1 else OPEN


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
    return f"; at D = {dim} a density takes {one} FLOPs at least, without an ODE {other}"


def _fixed(total: Total) -> bool:
    """Whether the width of a series does not follow D."""
    return bool(total.records.get("setting.hidden_per_dim", pd.Series()).isna().all())
