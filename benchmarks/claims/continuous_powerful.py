"""Continuous flows are more powerful than others."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis.contests import Contest, contests, kinds
from benchmarks.claims import Verdict, register
from benchmarks.claims.examples import densities, searched
from benchmarks.claims.leads import contests_of, judge_leads

NAME = "continuous-powerful"


def example(lead: float, **how: float) -> pd.DataFrame:
    """Densities of which the first of both kinds leads by so many nats."""
    return densities({"cnf": lead, "glow": 0.0}, **how)


def example_of_a_search(lead: float) -> pd.DataFrame:
    """The same at the largest budget of a search, and the other way round at a smaller one."""
    return searched({"cnf": lead, "glow": 0.0})


@contests_of(NAME)
def pairs(rows: pd.DataFrame) -> list[Contest]:
    """The best continuous flow against the best discrete one, on each set."""
    kind = kinds(rows)
    return contests(rows, kind == "continuous", kind == "discrete")


@register(
    NAME,
    page=11,
    item=3,
    slide="Summary",
    statement="Continuous flows are more powerful than normalizing flows without an ODE.",
    studies=("frontier",),
    also=("density",),
    suite="frontier",
    exhibits=("frontier", "density", "validation"),
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
    """The lead of the best of one kind over the best of the other, on each set."""
    missing = "densities of continuous and of discrete flows on one data set, with validation"
    return judge_leads(frame, NAME, "The best continuous flow leads the best discrete one", missing)
