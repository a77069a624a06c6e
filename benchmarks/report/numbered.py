"""Exhibits made ready to show: drawn or formatted, numbered, with names that are files'."""

from __future__ import annotations

import itertools
import re

import pandas as pd

from benchmarks.core import exhibit
from benchmarks.core.exhibit import RECORDS
from benchmarks.report.cells import Grid, grid
from benchmarks.report.content import Figure, Table
from benchmarks.report.pictures import draw


class Names:
    """Names that are safe and differ, as files and as anchors."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, name: str, study: str = "") -> str:
        """``name`` made safe; with the study before it, then a number after it, where taken."""
        first = _slug(name)
        later = (f"{_slug(study)}-{first}{f'-{n}' if n > 1 else ''}" for n in itertools.count(1))
        free = next(c for c in itertools.chain([first], later) if c.lower() not in self._taken)
        self._taken.add(free.lower())
        return free


class Exhibits:
    """The tables and figures of one report, numbered in the order in which they are asked for."""

    def __init__(self) -> None:
        self._figures, self._tables = Names(), Names()
        self._figure, self._table = itertools.count(1), itertools.count(1)

    def figure(self, raw: exhibit.Figure, study: str, side: str = "") -> Figure:
        """A figure, drawn; of one ``side`` where a report has several."""
        name = self._figures.name(f"{raw.name}-{side}" if side else raw.name, study)
        picture = draw(raw, name)
        number, keys = next(self._figure), tuple(raw.records)
        return Figure(number, name, raw.title, raw.note, picture, keys, side)

    def table(self, raw: exhibit.Table, study: str) -> Table:
        """A table, formatted."""
        return self.formatted(raw, grid(raw), study)

    def formatted(self, raw: exhibit.Table, cells: Grid, study: str) -> Table:
        """A table whose cells are known."""
        text, name = csv(raw), self._tables.name(raw.name, study)
        return Table(next(self._table), name, raw.title, raw.note, cells, text, raw.rows_from)


def csv(raw: exhibit.Table) -> str:
    """The raw rows, and in the last column the keys of each one's records."""
    frame = raw.frame.drop(columns=RECORDS, errors="ignore")
    if any(raw.rows_from):
        keys = pd.Series(map(" ".join, raw.rows_from), frame.index, dtype=object)
        frame = frame.assign(**{RECORDS: keys})
    return frame.to_csv(index=False, lineterminator="\n")


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "unnamed"
