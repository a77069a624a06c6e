"""What a report shows, before any format: numbered tables and figures, in sections."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.report.cells import Grid
from benchmarks.report.facts import Fact
from benchmarks.report.pictures import Picture
from benchmarks.report.plan import Plan


@dataclass(frozen=True)
class Table:
    """A table as shown: numbered, formatted, with a name that is a file's."""

    number: int
    name: str
    title: str
    note: str
    grid: Grid
    csv: str
    records: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A figure as shown: numbered, drawn, with a name that is a file's."""

    number: int
    name: str
    title: str
    note: str
    picture: Picture
    records: tuple[str, ...]


@dataclass
class Section:
    """One study: its question, what it shows, and what has to be said about it."""

    study: str
    anchor: str
    question: str = ""
    notes: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """Everything that a report shows."""

    plan: Plan
    header: list[Fact]
    sections: list[Section]
    undone: Table | None
    provenance: list[Fact]

    @property
    def tables(self) -> list[Table]:
        """All tables, in their order."""
        shown = [table for section in self.sections for table in section.tables]
        return shown + ([self.undone] if self.undone else [])

    @property
    def figures(self) -> list[Figure]:
        """All figures, in their order."""
        return [figure for section in self.sections for figure in section.figures]
