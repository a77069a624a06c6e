"""Normalizing flows are a useful instrument for density estimation."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis import criteria
from benchmarks.analysis.contests import Contest, contests, kinds
from benchmarks.claims.leads import register_leads

NAME = "useful-instrument"
MIXTURES = criteria.of(NAME)["mixtures"]  # sets whose truth is a mixture of Gaussians


@register_leads(
    NAME,
    page=11,
    item=1,
    slide="Summary",
    statement="Normalizing flows are a useful instrument for density estimation.",
    exhibits=("frontier", "density"),
    who="The best flow leads the best baseline",
    missing="densities of flows and of baselines, with validation, where no mixture is the truth",
    example=("maf", "gaussian"),
)
def pairs(rows: pd.DataFrame) -> list[Contest]:
    """The best flow against the best baseline, on each set whose truth is no baseline's model."""
    names = rows["dataset"].str.replace(r"_\d+$", "", regex=True)
    rows = rows[~names.isin(MIXTURES)]
    baseline = kinds(rows) == "baseline"
    return contests(rows, ~baseline, baseline)
