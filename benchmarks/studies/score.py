"""The score over data sets of a study that compares likelihoods."""

from typing import Any

import pandas as pd

from benchmarks.analysis.contests import kinds
from benchmarks.analysis.criteria import LEVEL, MARGIN
from benchmarks.analysis.inference import of_repetitions
from benchmarks.analysis.ranking import Ranking
from benchmarks.core.exhibit import RECORDS, Column, Table, columns

COLUMNS = columns(
    {"model": "Model", "kind": "Kind", "rank": Column("Mean rank", digits=".2f")},
    {"standing": "Beside the best"},
    {"closed": Column("Gap closed", "%", scale=100, digits=".1f", error="half")},
    {"median": Column("Median gap closed", "%", scale=100, digits=".1f")},
    {"wins": Column("Win rate", "%", scale=100, digits=".1f")},
)


def table(study: str, ranking: Ranking) -> Table:
    """Mean ranks and which differ from the best, gaps closed and win rates, a row a model."""
    cases, ranks, (_, *behind) = ranking.cases, ranking.ranks, ranking.differ[0]
    values: dict[str, Any] = {
        "kind": kinds(cases).groupby(cases["series"]).first(),
        "rank": ranks,
        "wins": (len(ranks) - ranks) / (len(ranks) - 1),  # all models have all sets
        RECORDS: cases.groupby("series")["key"].agg(tuple),
    }
    frame = pd.DataFrame(values, ranks.index).rename_axis("model").reset_index()
    frame["standing"] = [None, *("behind" if differs else "not decided" for differs in behind)]
    frame["rank.leads"] = [all(behind), *(False for _ in behind)]
    if len(ranking.closed.columns):
        shares = [of_repetitions(row) for row in ranking.closed.to_numpy()]
        frame["closed"] = [share.value for share in shares]
        frame["half"] = [share.half(LEVEL) for share in shares]
        frame["median"] = ranking.closed.median(axis=1).tolist()
    title = f"Score over {len(ranking.likelihoods.columns)} data sets"
    return Table.of(f"{study}-score", title, _note(ranking), frame, COLUMNS)


def _note(ranking: Ranking) -> str:
    sets, p = ranking.likelihoods.columns, ranking.p
    others = ", ".join(name for name in sets if name not in ranking.closed)
    without = f", without {others}: unknown or below {MARGIN['most']:g} nats" if others else ""
    note = (
        f"Ranks of mean test log-likelihoods on {', '.join(sets)}, ties averaged. Gap closed: "
        "share of that between the Gaussian and the best of these models, mean over sets ± half of "
        f"its {1 - LEVEL:.0%} interval, and median{without}. Win rate: share of the contests with "
        "each other model on each set, a tie by half. Friedman's test, by the F of Iman and "
        f"Davenport: p {f'= {p:.2g}' if p >= 0.001 else '< 0.001'}. Where it rejects at {LEVEL:g}, "
        f"models differ whose mean ranks are {ranking.critical():.2f} apart (Nemenyi; Demšar "
        "2006): behind; bold: ahead of every other."
    )
    left_out = f" Left out, so that each model has each set: {', '.join(ranking.left_out)}."
    return note + left_out * bool(ranking.left_out)
