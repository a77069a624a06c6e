"""What a report shows, before any format: numbered tables and figures, in sections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.core.plan import Plan
from benchmarks.report.cells import Grid
from benchmarks.report.claims import Judged
from benchmarks.report.facts import Fact
from benchmarks.report.pictures import Picture
from benchmarks.report.references import References


@dataclass(frozen=True)
class Table:
    """A table as shown: numbered, formatted, with a name that is a file's.

    ``rows_from`` are for each row the keys of the records that it comes from.
    """

    number: int
    name: str
    title: str
    note: str
    grid: Grid
    csv: str
    rows_from: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A figure as shown: numbered, drawn, with a name that is a file's; ``side`` of several."""

    number: int
    name: str
    title: str
    note: str
    picture: Picture
    records: tuple[str, ...]
    side: str = ""


@dataclass
class Section:
    """One study: its question, what it shows, and what has to be said about it.

    ``changes`` are the tables that several sides are compared by, which stand first.
    """

    study: str
    anchor: str
    question: str = ""
    notes: list[str] = field(default_factory=list)
    changes: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    @property
    def plates(self) -> list[list[Figure]]:
        """The figures, those of several sides that show the same together."""
        alike: dict[str, list[Figure]] = {}
        for figure in self.figures:
            alike.setdefault(figure.title if figure.side else figure.name, []).append(figure)
        return list(alike.values())


@dataclass(frozen=True)
class Claims:
    """The claims that the records judge, and their table."""

    judged: Judged
    table: Table


@dataclass(frozen=True)
class Report:
    """Everything that a report shows; ``records`` lists what ``references`` refer to."""

    plan: Plan
    header: list[Fact]
    sections: list[Section]
    undone: Table | None
    provenance: list[Fact]
    records: Table | None
    references: References
    claims: Claims | None = None

    @property
    def tables(self) -> list[Table]:
        """All tables, in their order."""
        first = [self.claims.table] if self.claims else []
        shown = [table for s in self.sections for table in (*s.changes, *s.tables)]
        return first + shown + [table for table in (self.undone, self.records) if table]

    def exhibits(self, names: Iterable[str]) -> list[Figure | Table]:
        """The figures and tables of these names, as far as they are shown."""
        shown: list[Figure | Table] = [*self.figures, *self.tables]
        return [item for name in names for item in shown if item.name == name]

    @property
    def figures(self) -> list[Figure]:
        """All figures, in their order."""
        return [figure for section in self.sections for figure in section.figures]

    @property
    def several(self) -> bool:
        """Whether figures of several sides stand beside each other."""
        return any(figure.side for figure in self.figures)
