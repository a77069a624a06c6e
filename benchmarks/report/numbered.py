"""Number exhibits, draw or format them, and name their files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from benchmarks.core import exhibit
from benchmarks.report.cells import DOUBTFUL, grid
from benchmarks.report.content import Figure, Table
from benchmarks.report.pictures import draw


class Names:
    """Names that are safe and differ, as files and as anchors."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, name: str, study: str = "") -> str:
        """A safe and free form of ``name``: with the study before it, then a number after it."""
        first = _slug(name)
        later = (f"{_slug(study)}-{first}{f'-{n}' if n > 1 else ''}" for n in itertools.count(1))
        free = next(c for c in itertools.chain([first], later) if c.lower() not in self._taken)
        self._taken.add(free.lower())
        return free


class Exhibits:
    """The tables and figures of one report, numbered in the order in which they are asked for.

    ``cautions`` are by record why its times are not to be quoted.
    """

    def __init__(self, cautions: Mapping[str, str] | None = None) -> None:
        self.cautions = cautions or {}
        self._figures, self._tables = Names(), Names()
        self._figure, self._table = itertools.count(1), itertools.count(1)

    def figure(self, raw: exhibit.Figure, study: str, suffix: str = "") -> Figure:
        """A figure, drawn; ``suffix`` is added to its title."""
        name = self._figures.name(raw.name, study)
        picture, title = draw(raw, name), raw.title + suffix
        return Figure(next(self._figure), name, title, raw.note, picture, tuple(raw.records))

    def table(self, raw: exhibit.Table, study: str, suffix: str = "") -> Table:
        """A table, formatted; ``suffix`` is added to its title."""
        cells, name = grid(raw, self.cautions), self._tables.name(raw.name, study)
        note = f"{raw.note} {DOUBTFUL}".strip() if cells.doubtful else raw.note
        return Table(next(self._table), name, raw.title + suffix, note, cells, raw)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "unnamed"
