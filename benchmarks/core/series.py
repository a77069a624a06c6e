"""Series: rows of the frame that differ in dimension, data set or seed alone, and their names."""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks.core import naming

# what decides a width in place of a number: its column, and how it is told
RULES = {"setting.parameters": "{:,.0f} parameters", "setting.hidden_per_dim": "{:g}·D"}
# how a case is measured, which makes it no other thing
HOW = tuple(
    f"setting.{n}" for n in ("seconds", "resident", "point", "checks", "tolerances", "expected")
)


def series(frame: Any) -> list[str]:
    """The name of each row's series: the flow, and what tells its configurations apart.

    Rows of one name differ in dimension, data set or seed alone. Where a rule decides the width, it
    is told and not the width: that differs from D to D, and is one series for all that.
    """
    for rule, words in RULES.items():
        if rule in frame:
            width, by_rule = frame["option.hidden"].astype(object), frame[rule]
            width = width.where(by_rule.isna(), by_rule.map(words.format))
            frame = frame.drop(columns=rule).assign(**{"option.hidden": width})
    wanted = ("option.", "setting.", "batch", "updates")
    columns = [c for c in frame.columns if str(c).startswith(wanted) and c not in HOW]
    options = frame[columns].to_dict("records")
    rows = [{c.partition(".")[2] or c: v for c, v in row.items()} for row in options]
    return naming.apart(list(zip(frame["flow"], rows, strict=True)))


def fitted(frame: pd.DataFrame) -> pd.Series:
    """Whether each row is of a fitted baseline: one that makes no updates."""
    return frame["updates"] == 0
