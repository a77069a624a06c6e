"""Degrees in D of exact counts, by what decides the width."""

from __future__ import annotations

import pandas as pd

from benchmarks.analysis import growth
from flows.continuous.trace import Trace

FIXED, FOLLOWS = "fixed", "H = c D"


def degrees(scans: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row for each series of `sizes.scans` whose counts are of a polynomial in D.

    "Series", "Flow", the "Trace" (of a flow without that option, its own) and whether it is
    "Stochastic", "Depth", "Width", "Degree", the largest "D" and "Records".
    """
    rows = []
    for name, group in scans.groupby("series"):
        call = metric.removesuffix("_flops")
        counted = growth.flops(group, call) if call == "log_prob" else growth.counts(group, metric)
        first = group.iloc[0]
        if counted is not None and counted.degree is not None and not _ruled(first, "parameters"):
            said = first.get("option.trace")
            trace = Trace.of(said) if isinstance(said, str | dict) else None
            rows.append(
                {
                    "Series": str(name),
                    "Flow": first["flow"],
                    "Trace": trace.estimator if trace else "its own",
                    "Stochastic": trace is not None and trace.stochastic,
                    "Depth": first.get("option.depth"),
                    "Width": FOLLOWS if _ruled(first, "hidden_per_dim") else FIXED,
                    "Degree": counted.degree,
                    "D": int(counted.largest),
                    "Records": tuple(group["key"]),
                }
            )
    columns = ["Series", "Flow", "Trace", "Stochastic", "Depth", "Width", "Degree", "D", "Records"]
    return pd.DataFrame(rows, columns=columns)


def _ruled(first: pd.Series, rule: str) -> bool:
    return bool(pd.notna(first.get(f"setting.{rule}")))
