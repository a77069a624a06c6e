"""From records to what a report shows: each study asked, its faults noted, all of it numbered."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from benchmarks import exhibit, store, studies
from benchmarks.report import plan as plans
from benchmarks.report.cells import grid
from benchmarks.report.content import Figure, Report, Section, Table
from benchmarks.report.facts import header, provenance
from benchmarks.report.pictures import draw


class Numbering:
    """Numbers from one, and names that are safe and differ, as files and as anchors."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._taken: set[str] = set()

    def number(self) -> int:
        return next(self._numbers)

    def name(self, name: str, study: str = "") -> str:
        """``name`` made safe; with the study before it, then a number after it, where taken."""
        first = _slug(name)
        later = (f"{_slug(study)}-{first}{f'-{n}' if n > 1 else ''}" for n in itertools.count(1))
        free = next(c for c in itertools.chain([first], later) if c.lower() not in self._taken)
        self._taken.add(free.lower())
        return free


def collect(folder: Path) -> Report:
    """What the report of a results folder shows; ValueError where it is none."""
    everything = store.read(store.existing(folder))
    plan = plans.read(folder, everything)
    cases = plan.cases
    records = {case.key: everything[case.key] for case in cases if case.key in everything}
    frame = store.frame(folder, records.values())
    anchors, figures, tables = Numbering(), Numbering(), Numbering()
    sections = []
    for study in dict.fromkeys(case.study for case in cases):
        section = Section(study, anchors.name(study))
        _fill(section, frame, figures, tables)
        sections.append(section)
    undone = _undone(cases, records, tables)
    seen = list(records.values())
    return Report(
        plan, header(plan, seen), sections, undone, provenance(seen, len(everything) - len(seen))
    )


def _fill(section: Section, frame: pd.DataFrame, figures: Numbering, tables: Numbering) -> None:
    """Ask a study for what it shows; whatever it cannot make becomes a note."""
    name, notes = section.study, section.notes
    with _noted(notes, f"Study {name!r}"):
        section.question = studies.registry[name].question
    if notes:
        return
    study = studies.registry[name]
    own, rows = (_of(frame, names) for names in ((name,), (name, *study.reads)))
    if own.empty:
        notes.append(f"Study {name!r}: no case has been measured yet")
        return
    same = own.fillna({"dataset": ""}).groupby(["flow", "dataset"])["fingerprint"]
    versions = int(same.nunique().max())
    if versions > 1:
        text = f"Study {name!r}: measured by more than one version of the code ({versions})"
        notes.append(f"{text}, so that its rows may not be comparable")
    pictures: list[exhibit.Figure] = []
    with _noted(notes, f"Study {name!r}: its figures"):
        pictures = list(study.figures(rows.copy()))
    for figure in pictures:
        with _noted(notes, f"Study {name!r}: figure {figure.name!r}"):
            section.figures.append(_figure(figure, name, figures))
    raw: list[exhibit.Table] = []
    with _noted(notes, f"Study {name!r}: its tables"):
        raw = list(study.tables(rows.copy()))
    for table in raw:
        with _noted(notes, f"Study {name!r}: table {table.name!r}"):
            section.tables.append(_table(table, name, tables))


def _of(frame: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """The rows of these studies."""
    return frame[frame["study"].isin(names)].reset_index(drop=True) if len(frame) else frame


def _figure(figure: exhibit.Figure, study: str, numbering: Numbering) -> Figure:
    name = numbering.name(figure.name, study)
    picture = draw(figure, name)
    number = numbering.number()
    return Figure(number, name, figure.title, figure.note, picture, tuple(figure.records))


def _table(table: exhibit.Table, study: str, numbering: Numbering) -> Table:
    cells, csv = grid(table), table.frame.to_csv(index=False, lineterminator="\n")
    name, number = numbering.name(table.name, study), numbering.number()
    return Table(number, name, table.title, table.note, cells, csv, tuple(table.records))


def _undone(
    cases: list[plans.Planned], records: Mapping[str, store.Record], numbering: Numbering
) -> Table | None:
    """The cases without a result, each with its reason; None where there are none."""
    rows = []
    for case in cases:
        record = records.get(case.key)
        status, reason = (record.status, record.reason) if record else ("missing", "not measured")
        label = case.label or (record.case.label if record else "")
        if status != "done":
            label = label.removeprefix(f"{case.study} ")
            rows.append((case.study, label, status, reason, case.key))
    if not rows:
        return None
    frame = pd.DataFrame(rows, columns=["study", "case", "status", "reason", "key"])
    note = "Missing: planned, and without a record so far."
    table = exhibit.Table("not-done", "Cases without a result", note, frame)
    return _table(table, "report", numbering)


@contextmanager
def _noted(notes: list[str], what: str) -> Iterator[None]:
    """One study's fault must not lose the rest: it is noted, and warned about."""
    try:
        yield
    except Exception as error:
        text = f"{what} could not be shown: {type(error).__name__}: {error}"
        notes.append(text)
        warnings.warn(text, stacklevel=3)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "unnamed"
