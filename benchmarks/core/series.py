"""Series: rows of the frame that differ in dimension, data set or seed alone, and their names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from benchmarks.core import naming

# settings that decide the width in place of a number: column, and how it is written
RULES = {"setting.parameters": "{:,.0f} parameters", "setting.hidden_per_dim": "{:g}·D"}
# settings of the measurement, which do not make another series
HOW = tuple(
    f"setting.{n}" for n in ("seconds", "resident", "point", "checks", "tolerances", "expected")
)


STAGE, LABEL, BUDGET = (f"setting.{n}" for n in ("stage", "label", "seconds"))  # of a search
STAR = "★"  # before the names of flows of plug-ins


def starred(names: Iterable[str], frame: pd.DataFrame) -> list[str]:
    """Names of the rows of a frame, with the `STAR` before those of flows of plug-ins."""
    foreign = frame["plugin"].eq(True) if "plugin" in frame else [False] * len(frame)
    pairs = zip(names, foreign, strict=True)
    return [f"{STAR} {name}" if own else name for name, own in pairs]


def flow_of(name: str) -> str:
    """The flow that the name of a series begins with, starred as it is; empty for no name."""
    first = next(iter(name.removeprefix(STAR).split()), "")
    return f"{STAR}{first}" if name.startswith(STAR) else first


def places(flows: Sequence[str]) -> str:
    """The rank of each flow of a plug-in among flows, best first; empty where there is none."""
    of = f"of {naming.counted(len(flows), 'flow')}"
    return ", ".join(f"{f} is {n} {of}" for n, f in enumerate(flows, 1) if f.startswith(STAR))


def of_plugins(flows: Sequence[str]) -> str:
    """What the star is and these ranks, to follow a table's note; empty without plug-ins."""
    return f" {STAR}: of a plug-in; {ranks}." if (ranks := places(flows)) else ""


def series(frame: Any) -> list[str]:
    """Name of each row's series: the flow, and the options in which its configurations differ.

    Rows of one name differ in dimension, data set or seed alone. Where a rule decides the width,
    the name has the rule in place of the width, which differs from D to D within one series.
    The run is named where the frame has rows of several. What a search has trained bears the label
    of its entrant and its budget; what the search chose is no part of the name.
    """
    for rule, words in RULES.items():
        if rule in frame:
            width, by_rule = frame["option.hidden"].astype(object), frame[rule]
            width = width.where(by_rule.isna(), by_rule.map(words.format))
            frame = frame.drop(columns=rule).assign(**{"option.hidden": width})
    wanted = ("option.", "setting.", "batch", "updates")
    columns = [c for c in frame.columns if str(c).startswith(wanted) and c not in HOW]
    options = frame[columns].to_dict("records")
    rows = [
        {c.partition(".")[2] or c: value for c, value in row.items() if not _missing(value)}
        for row in options
    ]
    pairs = list(zip(frame["flow"], rows, strict=True))
    if STAGE in frame:
        searched = zip(frame[LABEL], frame[BUDGET], frame[STAGE].notna(), strict=True)
        pairs = [
            (label, {"seconds": budget}) if own else pair
            for pair, (label, budget, own) in zip(pairs, searched, strict=True)
        ]
    names = starred(naming.apart(pairs), frame)
    if not several_runs(frame):
        return names
    return [f"{name} ({run})" for name, run in zip(names, frame["run"], strict=True)]


def _missing(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def width_rules(frame: pd.DataFrame) -> pd.Series:
    """What decides the width of each row in place of a number; empty where nothing does."""
    rules = pd.Series("", frame.index)
    for rule, words in RULES.items():
        if rule in frame:
            rules += frame[rule].map(words.format).where(frame[rule].notna(), "")
    return rules


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the column "series"."""
    return pd.concat([frame, pd.Series(series(frame), frame.index, name="series")], axis=1)


def name_runs(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The frame with the run added to texts of these columns, where it has rows of several."""
    if not several_runs(frame):
        return frame
    named = {}
    for column in (name for name in columns if name in frame):
        texts = [
            f"{text} ({run})" if isinstance(text, str) else text
            for text, run in zip(frame[column], frame["run"], strict=True)
        ]
        named[column] = pd.Series(texts, frame.index, dtype=object)
    return frame.assign(**named)


def several_runs(frame: pd.DataFrame) -> bool:
    """Whether the frame has rows of several runs, or is a part of one that has."""
    if "run" not in frame:
        return False
    if isinstance(frame["run"].dtype, pd.CategoricalDtype):
        return len(frame["run"].dtype.categories) > 1
    return frame["run"].nunique() > 1


def is_baseline(frame: pd.DataFrame) -> pd.Series:
    """Whether each row is of a baseline, which is fitted without updates."""
    return frame["updates"] == 0
