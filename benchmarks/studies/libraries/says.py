"""What the records of the libraries study say: who is fastest at each call, and at which error."""

from __future__ import annotations

import pandas as pd

from benchmarks.core.exhibit import scientific
from benchmarks.core.formats import number
from benchmarks.studies.libraries.tables import CALLS, comparisons


def says(frame: pd.DataFrame) -> list[str]:
    """Ratios of each call at the largest dimension, errors, and how equal the sizes are."""
    if "setting.group" not in frame:
        return []
    rows = comparisons(frame[frame["status"] == "done"])
    lines = [_ratios(rows, call, name) for call, name in CALLS.items()]
    return [line for line in (*lines, _errors(rows), _sizes(rows)) if line]


def _ratios(rows: pd.DataFrame, call: str, name: str) -> str:
    """The least and the largest ratio of each group to its first member."""
    ratio, parts = f"{call}.ratio", []
    if ratio not in rows:
        return ""
    largest = rows[rows["dim"] == rows["dim"].max()]
    for group, own in largest.groupby("group", sort=False):
        known = own.dropna(subset=[ratio]).sort_values(ratio)
        words = [
            f"{number(r, '.2g')} ({m})" for m, r in zip(known["member"], known[ratio], strict=True)
        ]
        if words:
            parts.append(f"{group} {' to '.join(dict.fromkeys((words[0], words[-1])))}")
    dim = rows["dim"].max()
    return f"Time of {name} at D = {dim} over that of ours: {'; '.join(parts)}." if parts else ""


def _errors(rows: pd.DataFrame) -> str:
    """The largest error of each group, and whose it is."""
    known = rows.dropna(subset=["log_prob_error"]) if "log_prob_error" in rows else rows.iloc[:0]
    parts = []
    for group, own in known.groupby("group", sort=False):
        worst = own.sort_values("log_prob_error").iloc[-1]
        error = scientific(worst["log_prob_error"])
        parts.append(f"{group} {error} ({worst['member']} at D = {worst['dim']})")
    return f"Largest error of log_prob against float64, nats: {'; '.join(parts)}." if parts else ""


def _sizes(rows: pd.DataFrame) -> str:
    """By how much numbers of parameters differ within a group."""
    if "parameters" not in rows:
        return ""
    counts = rows.groupby(["group", "dim"])["parameters"]
    spread = float((counts.max() / counts.min() - 1).max())
    return f"Within a group the numbers of parameters differ by {number(spread, '.1%')} at most."
