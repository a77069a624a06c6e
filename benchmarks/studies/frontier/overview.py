"""Likelihoods of all data sets side by side, each at one budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from benchmarks.analysis import improvement
from benchmarks.analysis.criteria import LEVEL
from benchmarks.core.exhibit import RECORDS, Column, Table

MEANS = (
    "Mean test log-likelihood in nats over seeds and their splits, ± half of its "
    f"{1 - LEVEL:.0%} interval"
)
BOLD = (
    f"Bold: ahead of every other at a level of {LEVEL:g} over all of its rivals (Student's t on "
    "differences, Holm)."
)


def overview(likelihoods: Mapping[str, Table]) -> Table:
    """A row a model, a column a data set, from the tables of each set's likelihoods by budget.

    Each column has the budget that most models have, the largest if several tie. May be empty.
    """
    records: dict[str, tuple[str, ...]] = {}
    for table in likelihoods.values():
        for model, keys in zip(table.frame["model"], table.rows_from, strict=True):
            records[model] = records.get(model, ()) + keys
    frame, columns = pd.DataFrame({"model": list(records)}), {"model": Column("Model")}
    for data, table in likelihoods.items():
        if value := _of_most_models(table.frame):
            column = table.columns[value]
            rows = table.frame.set_index("model").reindex(frame["model"]).astype(object)
            rows = rows.where(rows.notna(), None)
            places = {part: f"{part}.{data}" for part in (value, *column.beside)}
            frame = frame.assign(**{place: rows[part].tolist() for part, place in places.items()})
            columns[places[value]] = replace(
                column,
                label=f"{data}, {column.label}",
                error=places[column.error],
                leads=places[column.leads],
                mark=places[column.mark],
            )
    frame[RECORDS] = list(records.values())
    ranks = frame[list(columns)[1:]].astype(float).rank(ascending=False).mean(axis=1)
    frame = frame.loc[ranks.dropna().sort_values(kind="stable").index].reset_index(drop=True)
    note = (
        f"{MEANS}, after the seconds of updates in each header; baselines are fitted. {BOLD} "
        "Rows are in order of mean rank. A data set's own table lists models with fewer splits and "
        "those whose mean depends on few test rows."
    )
    note += improvement.note(frame)
    return Table("frontier-sets", "Test log-likelihood by data set", note, frame, columns=columns)


def _of_most_models(frame: pd.DataFrame) -> str:
    """The column of the budget that most models have, the last if several tie; "" if none has."""
    counts = frame.filter(regex=r"^test_ll\.").notna().sum()
    return str(counts[::-1].idxmax()) if len(counts) else ""
