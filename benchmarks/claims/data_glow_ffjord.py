"""FFJORD's densities are nearer to the data than Glow's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd

from benchmarks.analysis.contests import Contest, contests
from benchmarks.claims import Verdict, register, span
from benchmarks.claims.examples import densities, searched
from benchmarks.claims.leads import contests_of, judge_leads

NAME = "data-glow-ffjord"


def example(lead: float, **how: float) -> pd.DataFrame:
    """Densities of which the first of both kinds leads by so many nats."""
    return densities({"ffjord": lead, "glow": 0.0}, **how)


def example_of_a_search(lead: float) -> pd.DataFrame:
    """The same at the largest budget of a search, and the other way round at a smaller one."""
    return searched({"ffjord": lead, "glow": 0.0})


@contests_of(NAME)
def pairs(rows: pd.DataFrame) -> list[Contest]:
    """FFJORD against Glow, on each set of two dimensions."""
    flat = rows[rows["dim"] == 2]
    return contests(flat, *(flat["flow"] == name for name in ("ffjord", "glow")))


@register(
    NAME,
    page=10,
    slide="FFJORD Performance: Density estimation",
    statement="On two-dimensional data FFJORD's density is closer to the data than Glow's.",
    studies=("frontier",),
    also=("density",),
    suite="frontier",
    exhibits=("frontier", "density", "pictures"),
    examples=[
        ("confirmed", partial(example, 1.0)),
        ("refuted", partial(example, -1.0)),
        ("refuted", partial(example, 0.01)),
        ("conditional", partial(example, 1.0, turn=-1.0)),
        ("undecided", partial(example, 1.0, scatter=2.0)),
        ("confirmed", partial(example_of_a_search, 2.0)),
        ("refuted", partial(example_of_a_search, -2.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The lead of one over the other on each set, and what either had."""
    missing = "densities in two dimensions of both ffjord and glow, with validation"
    verdict = judge_leads(frame, NAME, "FFJORD leads", missing)
    used = frame[frame["key"].isin(verdict.records)]
    ones, others = (used[used["flow"] == name] for name in ("ffjord", "glow"))
    budgets = [_against(ones, others, "parameters", ",.0f")]
    known = [side.get("train_seconds", pd.Series(dtype=float)).notna() for side in (ones, others)]
    if all(len(side) and side.all() for side in known):  # a document has none that were not quiet
        budgets.append(f"{_against(ones, others, 'train_seconds', '.3g')} of training")
    sentence = f"{verdict.sentence[:-1]}, with {' and '.join(budgets)}."
    return replace(verdict, sentence=sentence)


def _against(ones: pd.DataFrame, others: pd.DataFrame, metric: str, digits: str) -> str:
    """ "4,612 to 9,104 against 4,572 to 9,024 parameters": the range of a metric on each side."""
    ranges = [span(side[metric], digits) for side in (ones, others)]
    return f"{' against '.join(ranges)} {metric.rpartition('_')[2]}"
