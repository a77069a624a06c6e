"""The content of a report before any format: numbered tables and figures, in sections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.core import exhibit
from benchmarks.core.frame import Plan
from benchmarks.core.naming import flow_of
from benchmarks.report.cells import Grid
from benchmarks.report.claims import Judged
from benchmarks.report.facts import DOUBTS, Fact
from benchmarks.report.pictures import Picture
from benchmarks.report.references import References

FLOWS = ("flow", "model", "series", "cheaper", "than")  # columns whose texts begin with a flow


@dataclass(frozen=True)
class Table:
    """A formatted table with its number and a name for its files; ``raw`` is the study's."""

    number: int
    name: str
    title: str
    note: str
    grid: Grid
    raw: exhibit.Table

    @property
    def flows(self) -> list[str]:
        """For each row the flows that it names, apart by spaces."""
        named = [self.raw.frame[name] for name in FLOWS if name in self.raw.frame]
        rows = zip(*named, strict=True) if named else [()] * len(self.raw.frame)
        return [" ".join(filter(None, (flow_of(str(text)) for text in row))) for row in rows]

    @property
    def rows_from(self) -> tuple[tuple[str, ...], ...]:
        """For each row the keys of the records that it comes from."""
        return self.raw.rows_from


@dataclass(frozen=True)
class Figure:
    """A drawn figure with its number and a name for its files."""

    number: int
    name: str
    title: str
    note: str
    picture: Picture
    records: tuple[str, ...]


@dataclass
class Section:
    """One study: its question, its figures and tables, notes to read before them, and a summary."""

    study: str
    anchor: str
    question: str = ""
    notes: list[str] = field(default_factory=list)
    says: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Claims:
    """The claims that the records judge, and their table."""

    judged: Judged
    table: Table
    by_run: Table | None = None


@dataclass(frozen=True)
class Report:
    """Everything that a report of ``runs`` shows; ``records`` lists what ``references`` mean."""

    plan: Plan
    header: list[Fact]
    sections: list[Section]
    undone: Table | None
    provenance: list[Fact]
    records: Table | None
    references: References
    claims: Claims | None = None
    runs: tuple[str, ...] = ()

    @property
    def says(self) -> list[str]:
        """What the records say, in sentences."""
        return [line for section in self.sections for line in section.says]

    @property
    def lead(self) -> Figure | None:
        """The figure that stands with what the records say: the first of a study that says it."""
        sections = sorted(self.sections, key=lambda section: not section.says)
        return next((figure for section in sections for figure in section.figures), None)

    @property
    def main(self) -> Table | None:
        """The first table of a study that says something, else of any."""
        sections = sorted(self.sections, key=lambda section: not section.says)
        return next((table for section in sections for table in section.tables), None)

    @property
    def warnings(self) -> list[str]:
        """What is to be known before any number is read."""
        doubts = [line for fact in self.header if fact.term in DOUBTS for line in fact.lines]
        return [*(note for section in self.sections for note in section.notes), *doubts]

    @property
    def of_origin(self) -> list[Fact]:
        """Every fact once: those of the head, then the others."""
        head = {fact.term: fact for fact in self.header}
        return [*self.header, *(fact for fact in self.provenance if fact.term not in head)]

    @property
    def tables(self) -> list[Table]:
        """All tables, in their order."""
        verdicts = (self.claims.table, self.claims.by_run) if self.claims else ()
        own = [table for section in self.sections for table in section.tables]
        return own + [table for table in (*verdicts, self.undone, self.records) if table]

    @property
    def figures(self) -> list[Figure]:
        """All figures, in their order."""
        return [figure for section in self.sections for figure in section.figures]

    def exhibits(self, names: Iterable[str]) -> list[Figure | Table]:
        """The figures and tables of these names, as far as the report has them."""
        every: list[Figure | Table] = [*self.figures, *self.tables]
        return [item for name in names for item in every if item.name == name]
