"""A study's table of several sides as one, rows that come from the same cases below each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from benchmarks.core.exhibit import RECORDS, Table
from benchmarks.core.formats import NOTHING
from benchmarks.report.cells import Cell, Grid, grid

SIDE = "Side"
HALF = 0.5  # of the cases of two rows, below which they are not of the same thing


class Row(NamedTuple):
    """A row of one side, by its place there."""

    side: str
    place: int


def stack(tables: Mapping[str, Table], identities: Mapping[str, str]) -> tuple[Table, Grid]:
    """The tables of the sides, with a column that names the side, raw and formatted.

    ``identities`` tell by a record's key which case it is of. Rows come in the order of the first
    side; those that only later sides have, last.
    """
    frames: list[pd.DataFrame] = []
    start: dict[str, int] = {}
    for side, table in tables.items():
        start[side] = sum(map(len, frames))
        frame = table.frame.astype(object).assign(**{SIDE: side})
        frame[RECORDS] = pd.Series(list(table.rows_from), frame.index, dtype=object)
        frames.append(frame)
    order = [row for rows in _paired(tables, identities) for row in rows]
    raw = pd.concat(frames, ignore_index=True).iloc[[start[s] + place for s, place in order]]
    first, *others = (column for column in raw if column not in (SIDE, RECORDS))
    frame = raw[[first, SIDE, *others, RECORDS]].reset_index(drop=True)
    one = next(iter(tables.values()))
    return Table(one.name, one.title, _note(tables), frame), _cells(tables, order)


def _paired(tables: Mapping[str, Table], identities: Mapping[str, str]) -> list[list[Row]]:
    """The rows of all sides, those of the same cases together, each side's in its order.

    A row whose cases no row of the sides before has goes with the one that shares most of them,
    if that is at least half of what both have.
    """
    paired: list[tuple[frozenset[str], list[Row]]] = []
    for side, table in tables.items():
        left = [
            (frozenset(identities[key] for key in keys), Row(side, place))
            for place, keys in enumerate(table.rows_from)
        ]
        free = list(paired)
        for least in (1.0, HALF):
            waiting, left = left, []
            for cases, row in waiting:
                best = max(free, key=lambda other: _alike(cases, other[0]), default=None)
                if best is not None and _alike(cases, best[0]) >= least:
                    free.remove(best)
                    best[1].append(row)
                else:
                    left.append((cases, row))
        paired += [(cases, [row]) for cases, row in left]
    return [rows for _, rows in paired]


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(1, len(one | other))


def _cells(tables: Mapping[str, Table], order: list[Row]) -> Grid:
    grids = {side: grid(table) for side, table in tables.items()}
    headers = list(dict.fromkeys(header for shown in grids.values() for header in shown.headers))
    columns = {
        side: {header: index for index, header in enumerate(shown.headers)}
        for side, shown in grids.items()
    }
    rows = []
    for side, place in order:
        row, known = grids[side].rows[place], columns[side]
        cells = [row[known[h]] if h in known else Cell(NOTHING) for h in headers]
        rows.append((cells[0], Cell(side), *cells[1:]))
    numeric = [
        any(shown.numeric[columns[side][h]] for side, shown in grids.items() if h in columns[side])
        for h in headers
    ]
    return Grid((headers[0], SIDE, *headers[1:]), (numeric[0], False, *numeric[1:]), tuple(rows))


def _note(tables: Mapping[str, Table]) -> str:
    """The note of all, or each side's where they differ."""
    notes = {side: table.note for side, table in tables.items()}
    if len(set(notes.values())) == 1:
        return next(iter(notes.values()))
    return " ".join(f"{side}: {note}" for side, note in notes.items())
