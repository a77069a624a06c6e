"""What the records of costs say: growth, the cheapest by counts and by seconds, crossings."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.analysis import sizes
from benchmarks.analysis.criteria import LEVEL
from benchmarks.analysis.crossings import ALWAYS, NEVER, crossings, medians
from benchmarks.analysis.growth import growth
from benchmarks.analysis.inference import Estimate, of_samples, standings
from benchmarks.core.exhibit import scientific
from benchmarks.core.formats import number
from benchmarks.core.naming import counted, width_rules
from benchmarks.studies.cost.tables import own
from benchmarks.studies.sentences import listed

FLOPS, SECONDS = "log_prob_flops", "log_prob_seconds"
ALIKE = 1.05  # ratio of two times below which they are level
POWERS = {0: "not at all", 1: "as D", 2: "as D²", 3: "as D³"}


def says(frame: pd.DataFrame) -> list[str]:
    """At most five sentences; none where nothing was counted."""
    frame = own(frame)
    scans = sizes.scans(frame[frame["status"] == "done"])
    if FLOPS not in scans or scans["series"].nunique() < 1:
        return []
    lines = [_grows(scans), _fewest(scans), _fastest(scans), _crosses(scans), _lacks(frame)]
    return [line for line in lines if line]


def _grows(scans: pd.DataFrame) -> str:
    """The degrees of exact counts."""
    grown = {str(name): growth(group, FLOPS) for name, group in scans.groupby("series")}
    degrees: dict[int, list[str]] = {}
    for name, one in grown.items():
        if one is not None and one.degree is not None:
            degrees.setdefault(one.degree, []).append(name)
    parts = [
        f"{POWERS.get(degree, f'as D to the {degree}')} for {listed(names, ', ')}"
        for degree, names in sorted(degrees.items())
    ]
    return f"FLOPs of log_prob grow {'; '.join(parts)} (exact counts)." if parts else ""


def _fewest(scans: pd.DataFrame) -> str:
    """The series of the fewest FLOPs at the largest D that all have, by each rule of the width."""
    parts = [_fewest_of(own) for _, own in scans.groupby(width_rules(scans), sort=False)]
    return (
        f"Fewest FLOPs a row of log_prob: {'; '.join(filter(None, parts))}." if any(parts) else ""
    )


def _fewest_of(scans: pd.DataFrame) -> str:
    costs = medians(scans, FLOPS).dropna()
    if costs.empty or costs.shape[1] < 2:
        return ""
    last = costs.iloc[-1].sort_values()
    cheapest = [str(name) for name in last.index[last == last.iloc[0]]]
    where = f"of {costs.shape[1]} at D = {costs.index[-1]:g}"
    if len(cheapest) < len(last):
        ratio = number(last.iloc[-1] / last.iloc[0], ".3g")
        where += f", where {last.index[-1]} takes {ratio} times as many"
    return f"{', '.join(cheapest)} ({scientific(last.iloc[0])}) {where}"


def _fastest(scans: pd.DataFrame) -> str:
    """The fastest series at the largest D that all have quotable times of, and its rivals."""
    if SECONDS not in scans:
        return ""
    asked = sizes.asked(scans)
    costs = medians(asked[asked[SECONDS].notna()], SECONDS).dropna()
    if costs.empty or costs.shape[1] < max(2, asked["series"].nunique()):
        return "Which is fastest is not judged: no D has times of all that may be quoted."
    order, dim = costs.iloc[-1].sort_values(), costs.index[-1]
    samples = {name: _logs(asked, str(name), dim) for name in order.index}
    first, *others = order.index
    differences = {str(name): of_samples(samples[name], samples[first]) for name in others}
    tests: dict[str, tuple[Estimate, float]] = {
        name: (estimate, float(np.log(ALIKE))) for name, estimate in differences.items()
    }
    standing = standings(tests, LEVEL)
    words = {
        "level with": [name for name, how in standing.items() if how == "level"],
        "not told apart from": [name for name, how in standing.items() if how == "open"],
    }
    named = [f"{how} {listed(names, ', ')}" for how, names in words.items() if names]
    lead = " and ".join(named) or "ahead of all others"
    most = number(order.iloc[-1] / order.iloc[0], ".3g")
    ratio = f"{order.index[-1]} takes {most} times as long"
    where = f"at D = {dim:g}, the largest with quotable times of all,"
    return f"By seconds of log_prob {where} {first} is first and {lead}; {ratio}."


def _logs(scans: pd.DataFrame, name: str, dim: float) -> np.ndarray:
    """Logarithms of the raw seconds of a row of data of one series at one D."""
    rows = scans[(scans["series"] == name) & (scans["dim"] == dim) & scans[SECONDS].notna()]
    pairs = zip(rows[f"{SECONDS}.values"], rows["batch"], strict=True)
    return np.concatenate([np.log(np.asarray(values, dtype=float) / b) for values, b in pairs])


def _crosses(scans: pd.DataFrame) -> str:
    """Where the FLOPs of one series become fewer than those of another."""
    pairs = crossings(scans, [FLOPS])
    where = pairs[FLOPS].astype(float)
    pairs = pairs[(where > ALWAYS) & (where < NEVER)]
    parts = [
        f"{row['cheaper']} than {row['than']} from D = {row[FLOPS]:.0f}"
        for _, row in pairs.iterrows()
    ]
    return f"Fewer FLOPs of log_prob: {listed(parts)}." if parts else ""


def _lacks(frame: pd.DataFrame) -> str:
    failed = frame[~frame["status"].isin(["done", "skipped"])]
    parts = [
        f"{name} ({counted(count, 'case')})"
        for name, count in failed.groupby("flow").size().items()
    ]
    return f"Without a result: {listed(parts, ', ')}." if parts else ""
