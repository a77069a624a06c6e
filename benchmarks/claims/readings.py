"""Both readings of a formula of complexity: an upper bound of the degree, and a tight one."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from benchmarks.analysis.growth import FIXED, FOLLOWS


def readings(of_dim: pd.DataFrame, allowed: Mapping[str, int]) -> tuple[list[bool], str]:
    """Whether degrees in D are at most, and are equal to, those of a formula; and the counts.

    ``of_dim`` has the columns "degree" and "width"; ``allowed`` the degree of the formula at a
    "fixed" width and where it "follows" D. A cost that is of no degree meets neither reading.
    """
    formula = of_dim["width"].map({FIXED: allowed["fixed"], FOLLOWS: allowed["follows"]})
    upper, tight = of_dim["degree"] <= formula, of_dim["degree"] == formula
    text = (
        f"as an upper bound the formula holds for {upper.sum()} of {len(of_dim)} series, and it is "
        f"tight for {tight.sum()}"
    )
    return [*upper, *tight], text
