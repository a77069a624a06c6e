"""From records to what a report shows: each study asked, its faults noted, all of it numbered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd

from benchmarks.core import exhibit
from benchmarks.core.exhibit import RECORDS
from benchmarks.report import claims, facts, shown, side
from benchmarks.report.content import Claims, Report, Section, Table
from benchmarks.report.numbered import Exhibits, Names
from benchmarks.report.references import References
from benchmarks.report.side import Side


def collect(folder: Path) -> Report:
    """What the report of a results folder shows; ValueError where it is none."""
    only = side.read(folder)
    numbered, sections = Exhibits(), started([only])
    judged = claims.judge(only.frame, shown.noted)
    verdicts = numbered.table(judged.table, "report") if judged.verdicts else None
    for section in sections:
        figures, tables = shown.exhibits(only, section.study, section.notes)
        for figure in figures:
            with shown.noted(section.notes, f"Study {section.study!r}: figure {figure.name!r}"):
                section.figures.append(numbered.figure(figure, section.study))
        for table in tables:
            with shown.noted(section.notes, f"Study {section.study!r}: table {table.name!r}"):
                section.tables.append(numbered.table(table, section.study))
    records = list(only.records.values())
    undone = _undone(only, numbered)  # before the list of records, which a page shows last
    listed, references = cited(sections, [only], numbered)
    return Report(
        only.plan,
        facts.header(only.counts, records),
        sections,
        undone,
        facts.provenance(records, only.outside),
        listed,
        references,
        Claims(judged, verdicts) if verdicts else None,
    )


def started(sides: Sequence[Side]) -> list[Section]:
    """A section for each study that is planned, with its question."""
    anchors, sections = Names(), []
    planned = chain.from_iterable(one.plan.cases for one in sides)
    for study in dict.fromkeys(case.study for case in planned):
        section = Section(study, anchors.name(study))
        section.question = shown.question(study, section.notes)
        sections.append(section)
    return sections


def cited(
    sections: Iterable[Section], sides: Sequence[Side], numbered: Exhibits
) -> tuple[Table | None, References]:
    """The list of all records, None of none, and their numbers: those of a row in a row."""
    sources: list[Iterable[str]] = []
    for section in sections:
        for table in (*section.tables, *section.changes):
            sources += table.rows_from
        sources += [figure.records for figure in section.figures]
    named = list(dict.fromkeys(chain.from_iterable(sources)))
    each = ([key for key in named if key in one.records] + list(one.records) for one in sides)
    stale = chain.from_iterable(one.stale for one in sides)
    references = References.of(chain(*each, named), stale)
    told = {key: facts for one in sides for key, facts in one.listed()}
    rows = [
        {"No.": number, "Record": key, **told.get(key, {"State": "not in the plan"})}
        for key, number in references.numbers.items()
    ]
    note = "Numbered in the order in which the rows of the tables name them."
    listed = exhibit.Table("records", "Records", note, pd.DataFrame(rows), {"Seconds": ".1f"})
    return (numbered.table(listed, "report") if rows else None), references


def _undone(only: Side, numbered: Exhibits) -> Table | None:
    """The cases without a valid result, each with its reason; None where there are none."""
    rows = [
        {
            "study": case.study,
            "case": case.label,
            "status": case.state,
            "reason": case.reason,
            "key": case.key,
            RECORDS: (case.key,) if case.key in only.records else (),
        }
        for case in only.standings
        if case.state != "done"
    ]
    if not rows:
        return None
    note = (
        "Missing: planned, and without a record so far. Stale: measured by code that has changed "
        "since; its numbers are shown. The next run measures both."
    )
    table = exhibit.Table("not-done", "Cases without a valid result", note, pd.DataFrame(rows))
    return numbered.table(table, "report")
