"""Trained flows and baselines with a test likelihood: those of a search before any others."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis import improvement
from benchmarks.analysis.contests import trained
from benchmarks.claims import done
from benchmarks.core.naming import STAGE

STUDIES = ("density", "frontier")


def scored(frame: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """The trained densities that have a test likelihood and these metrics.

    They have the likelihood at the end of their training (`improvement.LAST`). On a data set on
    which a search has trained, its models alone: they had equal effort. Raises NotMeasured where
    there is none.
    """
    rows = trained(done(frame, STUDIES, "test_ll", *metrics))
    rows = rows.assign(**{improvement.LAST: improvement.last(rows)})
    if STAGE not in rows:
        return rows
    searched = rows[STAGE].notna()
    sets = rows.loc[searched, "dataset"].unique()
    return rows[(rows["study"] == "frontier") | ~rows["dataset"].isin(sets)]
