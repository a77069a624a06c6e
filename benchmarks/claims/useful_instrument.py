"""Normalizing flows are a useful instrument for density estimation."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.analysis.contests import Contest, contests, kinds
from benchmarks.claims import Verdict, register
from benchmarks.claims.examples import densities, searched
from benchmarks.claims.leads import contests_of, judge_leads

NAME = "useful-instrument"
MIXTURES = criteria.of(NAME)["mixtures"]  # sets whose truth is a mixture of Gaussians


def example(lead: float, **how: float) -> pd.DataFrame:
    """Densities of which the first of both kinds leads by so many nats."""
    return densities({"maf": lead, "gaussian": 0.0}, **how)


def example_of_a_search(lead: float) -> pd.DataFrame:
    """The same at the largest budget of a search, and the other way round at a smaller one."""
    return searched({"maf": lead, "gaussian": 0.0})


@contests_of(NAME)
def pairs(rows: pd.DataFrame) -> list[Contest]:
    """The best flow against the best baseline, on each set whose truth is no baseline's model."""
    names = rows["dataset"].str.replace(r"_\d+$", "", regex=True)
    rows = rows[~names.isin(MIXTURES)]
    baseline = kinds(rows) == "baseline"
    return contests(rows, ~baseline, baseline)


@register(
    NAME,
    page=11,
    item=1,
    slide="Summary",
    statement="Normalizing flows are a useful instrument for density estimation.",
    studies=("frontier",),
    also=("density",),
    suite="frontier",
    exhibits=("frontier", "density"),
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
    """The lead of the best flow over the best baseline, on each set."""
    missing = "densities of flows and of baselines, with validation, where no mixture is the truth"
    return judge_leads(frame, NAME, "The best flow leads the best baseline", missing)
