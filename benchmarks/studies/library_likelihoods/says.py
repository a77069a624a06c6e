"""What the records of libraries' likelihoods say: who is ahead of the first, and who behind."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from benchmarks.core.formats import number
from benchmarks.studies.library_likelihoods.tables import STAGES, STANDS, comparisons


def says(frame: pd.DataFrame) -> list[str]:
    """For each data set and stage the standing of the members, and the range of updates."""
    rows = comparisons(frame)
    return [line for _, own in rows.groupby("dataset", sort=False) for line in _lines(own)]


def _lines(rows: pd.DataFrame) -> Iterator[str]:
    dataset = rows["dataset"].iloc[0]
    for stage, equal in STAGES.items():
        parts = []
        for group, own in rows.groupby("group", sort=False):
            members = own.groupby(f"{stage}.stands")["member"].agg(", ".join)
            standing = [f"{how} {members[how]}" for how in STANDS.values() if how in members]
            parts += [f"{group}: {'; '.join(standing)}"] if standing else []
        if parts:
            yield f"On {dataset} at {equal}, against the first of each group: {'. '.join(parts)}."
    done, parts = rows.dropna(subset=["seconds.updates"]), []
    for group, own in done.groupby("group", sort=False):
        ends = own.sort_values("seconds.updates").iloc[[0, -1]]
        counts = zip(ends["member"], ends["seconds.updates"], strict=True)
        words = [f"{number(count, ',.0f')} ({member})" for member, count in counts]
        parts.append(f"{group} {' to '.join(dict.fromkeys(words))}")
    if parts:
        yield f"Updates in equal seconds on {dataset}: {'; '.join(parts)}."
