"""The number of evaluations L' is a factor that does not depend on D."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.analysis.nfe import Total, families, growth, totals
from benchmarks.claims import NotMeasured, Outcome, Verdict, done, keys, listed, register
from benchmarks.claims.examples import made_up
from benchmarks.core.exhibit import scientific

FREE, GROWS, OPEN = "does not depend on D", "grows with D", "may or may not grow"
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


@register(
    "cost-in-total",
    page=9,
    item=5,
    slide="FFJORD Performance: Time complexity",
    statement="The number L' of evaluations of f is a separate factor that does not depend on D: "
    "the total O((DH + D) L') grows with D as DH + D does.",
    studies=("nfe", "cost"),
    suite="complexity",
    exhibits=("nfe-against-dimension", "nfe-totals", "nfe-growth"),
    examples=[
        ("confirmed", partial(example, 0.0)),
        ("refuted", partial(example, 1.0)),
        ("conditional", partial(example, 0.2, scatter=0.3)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The slope of each family, and totals at the largest dimension."""
    rows = done(frame, "nfe", "nfe_end")
    groups = families(rows)
    slopes = {name: grown for name, g in groups.items() if (grown := growth(g, "nfe_end"))}
    if not slopes:
        raise NotMeasured("evaluations after training at three dimensions or more")
    kinds = {name: _dependence(low, high) for name, (_, low, high) in slopes.items()}
    parts = []
    for kind in (FREE, GROWS, OPEN):
        of = [f"{name} ({_text(slopes[name])})" for name, own in kinds.items() if own == kind]
        parts += [f"{kind} for {listed(of)}"] if of else []
    sentence = f"After training NFE {', '.join(parts)}{_totals(frame)}."
    different = set(kinds.values())
    verdict: Outcome = "conditional"
    if different in ({FREE}, {GROWS}):
        verdict = "confirmed" if different == {FREE} else "refuted"
    return Verdict(verdict, sentence, keys(*groups.values()))


def _text(slope: tuple[float, float, float]) -> str:
    """ "0.12 [−0.01, 0.25]"."""
    return "{:.2f} [{:.2f}, {:.2f}]".format(*slope).replace("-", "−")


def _dependence(low: float, high: float) -> str:
    """What an interval of the slope says."""
    if low >= -FLAT and high <= FLAT:
        return FREE
    return GROWS if low > 0 else OPEN


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
