"""Normalizing flows are a useful instrument for density estimation."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis.contests import UPDATES, contests, kinds, trained
from benchmarks.analysis.paired import ERRORS
from benchmarks.claims import NotMeasured, Verdict, contested, done, register
from benchmarks.claims.examples import densities


def example(lead: float) -> pd.DataFrame:
    """Densities of which the first of both kinds leads by so many nats."""
    return densities({"maf": lead, "gaussian": 0.0})


@register(
    "useful-instrument",
    page=11,
    item=1,
    slide="Summary",
    statement="Normalizing flows are a useful instrument for density estimation.",
    criterion=f"By test log-likelihood, the best flow with {UPDATES} updates or more is compared "
    "with the best of a Gaussian and mixtures of Gaussians: confirmed if it leads by "
    f"{ERRORS:g} standard errors on every data set; refuted if it trails by as many on every "
    "one; else conditional on the data: a tie decides nothing.",
    studies=("density",),
    suite="densities",
    exhibits=("density",),
    examples=[
        ("confirmed", partial(example, 1.0)),
        ("refuted", partial(example, -1.0)),
        ("conditional", partial(example, 0.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The lead of the best flow over the best baseline, on each set."""
    rows = trained(done(frame, "density", "test_ll"))
    baseline = kinds(rows) == "baseline"
    pairs = contests(rows, ~baseline, baseline)
    if not pairs:
        raise NotMeasured("densities of flows and of baselines on one data set")
    return contested(pairs, "The best flow leads the best baseline")
