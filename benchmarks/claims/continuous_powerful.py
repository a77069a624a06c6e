"""Continuous flows are more powerful than others."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.analysis.contests import UPDATES, contests, kinds, trained
from benchmarks.analysis.paired import ERRORS
from benchmarks.claims import NotMeasured, Verdict, contested, done, register
from benchmarks.claims.examples import densities


def example(lead: float) -> pd.DataFrame:
    """Densities of which the first of both kinds leads by so many nats."""
    return densities({"cnf": lead, "glow": 0.0})


@register(
    "continuous-powerful",
    page=11,
    item=3,
    slide="Summary",
    statement="Continuous flows are more powerful than normalizing flows without an ODE.",
    criterion="By test log-likelihood, the best continuous flow is compared with the best "
    f"discrete one, each as the suite trains it, for {UPDATES} updates or more: confirmed if "
    f"it leads by {ERRORS:g} standard errors on every data set; refuted if it trails by as "
    "many on every one; else conditional on the data: a tie decides nothing.",
    studies=("density",),
    suite="densities",
    exhibits=("density", "validation"),
    examples=[
        ("confirmed", partial(example, 1.0)),
        ("refuted", partial(example, -1.0)),
        ("conditional", partial(example, 0.0)),
    ],
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The lead of the best of one kind over the best of the other, on each set."""
    rows = trained(done(frame, "density", "test_ll"))
    kind = kinds(rows)
    pairs = contests(rows, kind == "continuous", kind == "discrete")
    if not pairs:
        raise NotMeasured("densities of continuous and of discrete flows on one data set")
    return contested(pairs, "The best continuous flow leads the best discrete one")
