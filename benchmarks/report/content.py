"""The content of a report before any format: numbered tables and figures, in sections."""

import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd

from benchmarks.claims import claims, together
from benchmarks.core import exhibit
from benchmarks.core.exhibit import RECORDS, Column
from benchmarks.core.frame import Plan
from benchmarks.core.naming import flow_of
from benchmarks.report import runs
from benchmarks.report.cells import DOUBTFUL, Grid, grid
from benchmarks.report.claims import Judged, Judgement
from benchmarks.report.pictures import Picture, draw
from benchmarks.report.runs import DOUBTS, Facts, Run
from flows.plugins import FOREIGN, described

FLOWS = ("flow", "model", "series", "cheaper", "than")  # columns whose texts begin with a flow


@dataclass(frozen=True)
class References:
    """The numbers of records by their keys, from one, and the keys of those that are stale."""

    numbers: Mapping[str, int]
    stale: frozenset[str] = frozenset()

    def first(self, keys: Sequence[str]) -> int:
        return min(self.numbers[key] for key in keys)

    def text(self, keys: Sequence[str]) -> str:
        """ "3", "1–13, 20" or "1–13, 2 stale"."""
        numbers = spans(self.numbers[key] for key in keys)
        if not (stale := len(self.stale & set(keys))):
            return numbers
        return f"{numbers}, {'stale' if len(keys) == 1 else f'{stale} stale'}"


def spans(numbers: Iterable[int]) -> str:
    """Whole numbers in order; three or more that follow each other as "1–3"."""
    placed = enumerate(sorted(set(numbers)))  # numbers that follow each other are as far ahead
    groups = itertools.groupby(placed, lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in group] for _, group in groups]
    return ", ".join(
        f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


@dataclass(frozen=True)
class Table:
    """A formatted table with its number and a name for its files; ``raw`` is the study's."""

    kind: ClassVar[str] = "Table"
    number: int
    name: str
    title: str
    note: str
    grid: Grid
    raw: exhibit.Table

    @property
    def flows(self) -> list[str]:
        """For each row the flows that it names, apart by spaces."""
        columns = [self.raw.frame[name] for name in FLOWS if name in self.raw.frame]
        rows = zip(*columns, strict=True) if columns else [()] * len(self.raw.frame)
        return [" ".join(filter(None, (flow_of(str(text)) for text in row))) for row in rows]


@dataclass(frozen=True)
class Figure:
    """A drawn figure with its number and a name for its files."""

    kind: ClassVar[str] = "Figure"
    number: int
    name: str
    title: str
    note: str
    picture: Picture
    records: tuple[str, ...]


@dataclass
class Section:
    """One study: its question, its figures and tables, and notes to read before them."""

    study: str
    anchor: str
    question: str = ""
    notes: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """Everything that a report shows; ``records`` lists what ``references`` mean.

    ``verdicts`` are the table of claims, and those by budget and by run; none where no claim is
    judged.
    """

    plan: Plan
    header: Facts
    sections: list[Section]
    undone: Table | None
    provenance: Facts
    records: Table | None
    references: References
    judged: Judged = field(default_factory=Judged)
    verdicts: tuple[Table, ...] = ()

    @property
    def lead(self) -> Figure | None:
        """The figure at the top: the first of the study that has the `main` table, or of all."""
        lists = [s.figures for s in self.sections if any(t is self.main for t in s.tables)]
        return next(itertools.chain(*lists, self.figures), None)

    @property
    def main(self) -> Table | None:
        """The table at the top, and in a terminal: the first of leaders, or of all."""
        tables = [table for section in self.sections for table in section.tables]
        leaders = (table for table in tables if table.raw.first is not None)
        return next(itertools.chain(leaders, tables), None)

    @property
    def warnings(self) -> list[str]:
        """What is to be known before any number is read."""
        doubts = [line for term, of in self.header.items() if term in DOUBTS for line in of]
        return [*(note for section in self.sections for note in section.notes), *doubts]

    @property
    def tables(self) -> list[Table]:
        tables = [table for section in self.sections for table in section.tables]
        return tables + [table for table in (*self.verdicts, self.undone, self.records) if table]

    @property
    def figures(self) -> list[Figure]:
        return [figure for section in self.sections for figure in section.figures]

    def exhibits(self, names: Iterable[str]) -> list[Figure | Table]:
        """The figures and tables of these names, as far as the report has them."""
        every: list[Figure | Table] = [*self.figures, *self.tables]
        return [item for name in names for item in every if item.name == name]


def free_name(taken: set[str], name: str, study: str = "") -> str:
    """A form of ``name`` that is safe as a file and an anchor, and is ``taken`` from then on.

    Where it was taken the study stands before it, then a number after it.
    """
    safe = (re.sub(r"[^A-Za-z0-9_-]+", "-", n).strip("-") or "unnamed" for n in (name, study))
    first, study = safe
    later = (f"{study}-{first}-{n}" for n in itertools.count(2))
    forms = itertools.chain((first, f"{study}-{first}"), later)
    free = next(form for form in forms if form.lower() not in taken)
    taken.add(free.lower())
    return free


class Exhibits:
    """The tables and figures of one report, numbered in the order in which they are asked for.

    ``cautions`` are by record why its times are not to be quoted.
    """

    def __init__(self, cautions: Mapping[str, str] | None = None) -> None:
        self.cautions = cautions or {}
        self._figures, self._tables = set[str](), set[str]()  # their names
        self._figure, self._table = itertools.count(1), itertools.count(1)

    def figure(self, raw: exhibit.Figure, study: str, suffix: str = "") -> Figure:
        """A figure, drawn; ``suffix`` is added to its title."""
        name = free_name(self._figures, raw.name, study)
        picture, title = draw(raw, name), raw.title + suffix
        return Figure(next(self._figure), name, title, raw.note, picture, tuple(raw.records))

    def table(self, raw: exhibit.Table, study: str = "report", suffix: str = "") -> Table:
        """A table, formatted; ``suffix`` is added to its title."""
        cells, name = grid(raw, self.cautions), free_name(self._tables, raw.name, study)
        note = f"{raw.note} {DOUBTFUL}".strip() if cells.doubtful else raw.note
        return Table(next(self._table), name, raw.title + suffix, note, cells, raw)


def collect(folders: Sequence[Path]) -> Report:
    """Collect the report of results folders; ValueError for one that is none.

    Several are one long frame, whose series name their run. Runs whose times are of different
    machines or versions of torch are shown one after another, never in one table.
    """
    every = runs.read(folders)
    numbered = Exhibits({key: text for run in every for key, text in run.cautions.items()})
    parts = sections(every)
    frames = runs.side_by_side(every)
    for section in parts:
        for frame in frames:
            names = ", ".join(frame["run"].unique()) if len(frames) > 1 else ""
            fill(section, frame, numbered, f" ({names})" if names else "")
    judged = judge(every)
    verdicts = tuple(map(numbered.table, judged.tables))
    undone = _undone(every, numbered)  # before the list of records, which a page shows last
    records, references = _cited(parts, every, numbered)
    heads = {run.label: runs.header(run) for run in every}
    depths = {run.label: runs.provenance(list(run.records.values()), run.outside) for run in every}
    return Report(
        _plan(every),
        runs.beside(heads),
        parts,
        undone,
        runs.beside(depths),
        records,
        references,
        judged,
        verdicts,
    )


def judge(every: Sequence[Run]) -> Judged:
    """Judge every claim by each run alone."""
    judged = Judged()
    evidence = together({run.label if len(every) > 1 else "": run.frame for run in every})
    for claim in claims():
        with noted(judged.notes, f"Claim {claim.id!r}"):
            verdicts = {run: part.verdict(claim) for run, part in evidence.items()}
            every_run = [Judgement(claim, verdict, run) for run, verdict in verdicts.items()]
            measured = [one for one in every_run if one.verdict.outcome != "not_measured"]
            judged.judgements += measured
            judged.others += [] if measured else [claim]
    return judged


def _plan(every: Sequence[Run]) -> Plan:
    if len(every) == 1:
        return every[0].plan
    plans = {run.label: run.plan for run in every}
    abouts: dict[str, Facts] = {n: {"": (plan.about or plan.name,)} for n, plan in plans.items()}
    suites = {name: plan.suite for name, plan in plans.items()}
    return Plan(name=" vs ".join(plans), about=" ".join(runs.beside(abouts)[""]), suite=suites)


def _cited(
    parts: Iterable[Section], every: Sequence[Run], numbered: Exhibits
) -> tuple[Table | None, References]:
    """The list of all records, None of none, and their numbers: those of a row in a row."""
    keys: list[str] = []
    for section in parts:
        for table in section.tables:
            keys += itertools.chain(*table.raw.rows_from)
        keys += itertools.chain(*(figure.records for figure in section.figures))
    orders = ([key for key in keys if key in run.records] + list(run.records) for run in every)
    order = dict.fromkeys(itertools.chain(*orders, keys))
    numbers = {key: number for number, key in enumerate(order, 1)}
    references = References(numbers, frozenset(key for run in every for key in run.stale))
    cases = {case.key: (run, case) for run in every for case in run.states}
    rows = []
    for key, number in numbers.items():
        row: dict[str, object] = {"No.": number, "Record": key, "State": "not in the plan"}
        if key in cases:
            run, case = cases[key]
            record = run.records[key]
            row |= {"Study": case.study, "Case": case.label, "State": case.state}
            row |= {"Times": run.cautions.get(key), "Measured": record.started}
            row |= {"Seconds": record.seconds, "Code": record.fingerprint}
        rows.append(row)
    note = (
        "Numbered in the order in which the rows of the tables name them. Times: why they are not "
        "to be quoted, where they are not."
    )
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")
    columns = {"Seconds": Column(digits=".1f")}
    listing = exhibit.Table("records", "Records", note, frame, columns)
    return (numbered.table(listing) if rows else None), references


def _undone(every: Sequence[Run], numbered: Exhibits) -> Table | None:
    """The cases without a valid result, each with its reason; None where there are none."""
    rows = [
        {
            **({"run": run.label} if len(every) > 1 else {}),
            "study": case.study,
            "case": case.label,
            "status": case.state,
            "reason": case.reason,
            "key": case.key,
            RECORDS: (case.key,) if case.key in run.records else (),
        }
        for run in every
        for case in run.states
        if case.state != "done"
    ]
    if not rows:
        return None
    note = (
        "Missing: planned, and without a record so far. Stale: measured by a version of the code "
        "that is not the present one, in times alone where only those have changed; the numbers "
        "are shown. The next run measures both."
    )
    table = exhibit.Table("not-done", "Cases without a valid result", note, pd.DataFrame(rows))
    return numbered.table(table)


def sections(every: Sequence[Run]) -> list[Section]:
    """A section for each planned study, with its question and what to note of its records."""
    anchors, result = set[str](), []
    for study in dict.fromkeys(case.study for run in every for case in run.plan.cases):
        section = Section(study, free_name(anchors, study))
        with noted(section.notes, f"Study {study!r}"):
            section.question = getattr(exhibit.showing(study), "question", "")
            for run in every:
                name = f"{run.label}: " if len(every) > 1 else ""
                section.notes += [f"{name}Study {study!r}: {text}" for text in _notes(run, study)]
        result.append(section)
    return result


def fill(section: Section, frame: pd.DataFrame, numbered: Exhibits, suffix: str = "") -> None:
    """Ask a study for what it shows of a frame; ``suffix`` is added to every title."""
    study = section.study
    if frame.empty or not (frame["study"] == study).any():
        return
    shows = exhibit.showing(study)
    reads = [study, *getattr(shows, "reads", ())]
    rows = frame[frame["study"].isin(reads)].reset_index(drop=True)
    figures: list[exhibit.Figure] = []
    tables = [] if shows else [exhibit.plain_table(study, rows)]
    if shows:
        with noted(section.notes, f"Study {study!r}: its figures"):
            figures = list(shows.figures(rows.copy()))
        with noted(section.notes, f"Study {study!r}: its tables"):
            tables = list(shows.tables(rows.copy()))
    names = {figure.name for figure in figures}
    for figure in (figure for figure in figures if figure.within not in names):
        with noted(section.notes, f"Study {study!r}: figure {figure.name!r}"):
            section.figures.append(numbered.figure(figure, study, suffix))
    for table in tables:
        with noted(section.notes, f"Study {study!r}: table {table.name!r}"):
            section.tables.append(numbered.table(table, study, suffix))


@contextmanager
def noted(notes: list[str], what: str) -> Iterator[None]:
    """Note and warn of an exception, so that one study's fault does not lose the rest."""
    try:
        yield
    except FOREIGN as error:
        text = f"{what} could not be shown: {described(error)}"
        notes.append(text)
        warnings.warn(text, stacklevel=3)


def _notes(run: Run, study: str) -> Iterator[str]:
    """What to know of a run's records of a study before reading."""
    rows = run.frame[run.frame["study"] == study] if len(run.frame) else run.frame
    if rows.empty and all(case.study != study for case in run.plan.cases):
        return  # of another suite
    if rows.empty:
        yield "no case has been measured yet"
        return
    alike = rows.fillna({"dataset": ""}).groupby(["flow", "dataset"])["fingerprint"]
    if (versions := int(alike.nunique().max())) > 1:
        text = f"measured by more than one version of the code ({versions})"
        yield f"{text}, so that its rows may not be comparable"
    for state, what in (("stale", "stale"), ("stale in times", "stale in their times")):
        stale = [case for case in run.states if (case.study, case.state) == (study, state)]
        causes = dict.fromkeys(case.reason for case in stale)
        if stale:
            yield f"{len(stale)} of {rows['key'].nunique()} records are {what}: {'; '.join(causes)}"
    if run.note:
        yield run.note
