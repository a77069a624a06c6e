"""A study's table of several sides as one, rows that come from the same cases below each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from benchmarks.exhibit import RECORDS, Table
from benchmarks.report.cells import NOTHING, Cell, Grid, grid

SIDE = "Side"

Cases = tuple[frozenset[str], int]  # the cases of a row, and how many rows before it have the same


class Row(NamedTuple):
    """A row of one side, by its place there."""

    side: str
    place: int


def stack(tables: Mapping[str, Table], identities: Mapping[str, str]) -> tuple[Table, Grid]:
    """The tables of the sides, with a column that names the side, raw and formatted.

    ``identities`` tell by a record's key which case it is of. Rows come in the order of the first
    side; those that only later sides have, last.
    """
    frames = {}
    for side, table in tables.items():
        frames[side] = frame = table.frame.assign(**{SIDE: side})
        frame[RECORDS] = pd.Series(list(table.rows_from), frame.index, dtype=object)
    places: dict[Cases, list[Row]] = {}
    for side, table in tables.items():
        for place, cases in enumerate(_cases(table, identities)):
            places.setdefault(cases, []).append(Row(side, place))
    order = [row for rows in places.values() for row in rows]
    raw = pd.concat(frames[row.side].iloc[[row.place]] for row in order)
    first, *others = (column for column in raw if column not in (SIDE, RECORDS))
    frame = raw[[first, SIDE, *others, RECORDS]].reset_index(drop=True)
    one = next(iter(tables.values()))
    return Table(one.name, one.title, _note(tables), frame), _cells(tables, order)


def _cases(table: Table, identities: Mapping[str, str]) -> Iterator[Cases]:
    seen: Counter[frozenset[str]] = Counter()
    for keys in table.rows_from:
        cases = frozenset(identities[key] for key in keys)
        yield cases, seen[cases]
        seen[cases] += 1


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
