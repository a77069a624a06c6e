"""Normalizing flows are a useful instrument for density estimation."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis.contests import UPDATES, contests, kinds, trained
from benchmarks.analysis.paired import ERRORS
from benchmarks.claims import NotMeasured, Verdict, done, keys, of_leads, register
from benchmarks.core.naming import counted


@register(
    "useful-instrument",
    page=11,
    item=1,
    slide="Summary",
    statement="Normalizing flows are a useful instrument for density estimation.",
    criterion=f"By test log-likelihood, the best flow of {UPDATES} updates or more beside the "
    f"best of a Gaussian and mixtures of Gaussians: confirmed where it leads by {ERRORS:g} "
    "standard errors on every data set; refuted where it trails by as many on every one; else "
    "conditional on the data, for a tie is no evidence.",
    studies=("density",),
    suite="densities",
    exhibits=("density",),
)
def judge(frame: pd.DataFrame) -> Verdict:
    """The lead of the best flow over the best baseline, on each set."""
    rows = trained(done(frame, "density", "test_ll"))
    baseline = kinds(rows) == "baseline"
    found = contests(rows, ~baseline, baseline)
    if not found:
        raise NotMeasured("densities of flows and of baselines on one data set")
    led = sum(contest.leads for contest in found)
    used = [side for contest in found for side in (contest.one, contest.other)]
    sentence = (
        f"The best flow leads the best baseline on {led} of {counted(len(found), 'data set')}: "
        f"{', '.join(map(str, found))} nats."
    )
    leads = [(contest.lead, contest.error) for contest in found]
    return Verdict(of_leads(leads, ERRORS), sentence, keys(*used))
