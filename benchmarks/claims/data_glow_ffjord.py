"""FFJORD's densities are nearer to the data than Glow's."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmarks.analysis.contests import Contest, contests
from benchmarks.claims import span
from benchmarks.claims.leads import register_leads


def budgets(pairs: Sequence[Contest]) -> str:
    """What either had: ", with 4,612 against 4,572 to 9,024 parameters"."""
    sides = [pd.concat(own) for own in zip(*((p.one, p.other) for p in pairs), strict=True)]
    known = [f"{_against(sides, 'parameters', ',.0f')} parameters"]
    for metric, unit in (("train_cpu_seconds", "CPU seconds"), ("train_seconds", "seconds")):
        if all(metric in side and side[metric].notna().all() for side in sides):
            known.append(f"{_against(sides, metric, '.3g')} {unit} of training")
            break
    return f", with {' and '.join(known)}"  # a document has no seconds that were not quiet


@register_leads(
    "data-glow-ffjord",
    page=10,
    slide="FFJORD Performance: Density estimation",
    statement="On two-dimensional data FFJORD's density is closer to the data than Glow's.",
    exhibits=("frontier", "density", "pictures"),
    who="FFJORD leads",
    missing="densities in two dimensions of both ffjord and glow, with validation",
    example=("ffjord", "glow"),
    detail=budgets,
)
def pairs(rows: pd.DataFrame) -> list[Contest]:
    """FFJORD against Glow, on each set of two dimensions."""
    flat = rows[rows["dim"] == 2]
    return contests(flat, *(flat["flow"] == name for name in ("ffjord", "glow")))


def _against(sides: Sequence[pd.DataFrame], metric: str, digits: str) -> str:
    """ "4,612 to 9,104 against 4,572 to 9,024": the range of a metric on each side."""
    return " against ".join(span(side[metric], digits) for side in sides)
