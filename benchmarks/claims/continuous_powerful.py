"""Continuous flows are more powerful than others."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis.contests import Contest, contests, kinds
from benchmarks.claims.leads import register_leads


@register_leads(
    "continuous-powerful",
    page=11,
    item=3,
    slide="Summary",
    statement="Continuous flows are more powerful than normalizing flows without an ODE.",
    exhibits=("frontier", "density", "validation"),
    who="The best continuous flow leads the best discrete one",
    missing="densities of continuous and of discrete flows on one data set, with validation",
    example=("cnf", "glow"),
)
def pairs(rows: pd.DataFrame) -> list[Contest]:
    """The best continuous flow against the best discrete one, on each set."""
    kind = kinds(rows)
    return contests(rows, kind == "continuous", kind == "discrete")
