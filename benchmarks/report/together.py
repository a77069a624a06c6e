"""The report of several results folders side by side, as of a before and an after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.core import exhibit
from benchmarks.core.exhibit import RECORDS
from benchmarks.core.naming import labels
from benchmarks.core.plan import Plan
from benchmarks.core.record import Record
from benchmarks.report import facts, match, ratios, shown, side
from benchmarks.report.collect import cited, started
from benchmarks.report.content import Report, Section, Table
from benchmarks.report.numbered import Exhibits
from benchmarks.report.ratios import Shared
from benchmarks.report.side import Side
from benchmarks.report.stacked import stack


def collect(folders: Sequence[Path]) -> Report:
    """What a report of these results folders shows; ValueError where one is none."""
    named = match.labels(folders)
    sides = [side.read(folder, label) for folder, label in zip(folders, named, strict=True)]
    cases = [[record.case for record in one.records.values()] for one in sides]
    same = {
        key: identity
        for one, found in zip(sides, match.identities(cases), strict=True)
        for key, identity in zip(one.records, found, strict=True)
    }
    numbered, sections = Exhibits(), started(sides)
    for section in sections:
        _fill(section, sides, same, numbered)
    undone = _undone(sides, same, numbered)
    listed, references = cited(sections, sides, numbered)
    heads = {one.label: facts.header(one.counts, _records(one)) for one in sides}
    depths = {one.label: facts.provenance(_records(one), one.outside) for one in sides}
    return Report(
        _plan(sides),
        facts.beside(heads),
        sections,
        undone,
        facts.beside(depths),
        listed,
        references,
    )


def _plan(sides: Sequence[Side]) -> Plan:
    abouts = {o.label: [facts.Fact("", (o.plan.about or o.plan.name,))] for o in sides}
    return Plan(
        name=" vs ".join(one.label for one in sides),
        about=" ".join(facts.beside(abouts)[0].lines),
        suite={one.label: one.plan.suite for one in sides},
    )


def _records(one: Side) -> list[Record]:
    return list(one.records.values())


def _fill(
    section: Section, sides: Sequence[Side], same: Mapping[str, str], numbered: Exhibits
) -> None:
    """What changed, then what the study shows of each side."""
    study = section.study
    for made in ratios.tables(study, [one.label for one in sides], _shared(sides, study, same)):
        section.changes.append(numbered.table(made, study))
    figures: dict[str, dict[str, exhibit.Figure]] = {}
    tables: dict[str, dict[str, exhibit.Table]] = {}
    for one in sides:
        notes: list[str] = []
        drawn, listed = shown.exhibits(one, study, notes)
        section.notes += [f"{one.label}: {note}" for note in notes]
        for figure in drawn:
            figures.setdefault(figure.name, {})[one.label] = figure
        for table in listed:
            tables.setdefault(table.name, {})[one.label] = table
    for name, of in figures.items():
        for label, figure in of.items():
            with shown.noted(section.notes, f"Study {study!r}: figure {name!r} of {label}"):
                section.figures.append(numbered.figure(figure, study, label))
    for name, each in tables.items():
        with shown.noted(section.notes, f"Study {study!r}: table {name!r}"):
            section.tables.append(numbered.formatted(*stack(each, same), study))


def _shared(sides: Sequence[Side], study: str, same: Mapping[str, str]) -> list[Shared]:
    """The study's cases that are done on two sides or more."""
    keys: dict[str, dict[str, str]] = {}
    for one in sides:
        for key, record in one.records.items():
            if record.case.study == study and record.status == "done":
                keys.setdefault(same[key], {})[one.label] = key
    several = {identity: of for identity, of in keys.items() if len(of) > 1}
    found = {identity: _found(of, sides) for identity, of in several.items()}
    told = labels(next(iter(records.values())).case for records in found.values())
    return [
        Shared(told[next(iter(found[i].values())).case.key].removeprefix(f"{study} "), of, found[i])
        for i, of in several.items()
    ]


def _found(keys: Mapping[str, str], sides: Sequence[Side]) -> dict[str, Record]:
    return {one.label: one.records[keys[one.label]] for one in sides if one.label in keys}


def _undone(sides: Sequence[Side], same: Mapping[str, str], numbered: Exhibits) -> Table | None:
    """The cases that are not done on every side; None where there are none."""
    rows = list(_standings(sides, same))
    if not rows:
        return None
    note = "Where each case stands, and why where that is known; – where a side does not have it."
    frame = pd.DataFrame(rows)
    table = exhibit.Table("not-done", "Cases that are not done on every side", note, frame)
    return numbered.table(table, "report")


def _standings(sides: Sequence[Side], same: Mapping[str, str]) -> Iterator[dict[str, object]]:
    known = {r.case.key: same[key] for one in sides for key, r in one.records.items()}
    found: dict[str, dict[str, side.Standing]] = {}
    for one in sides:
        for case in one.standings:
            own = case.key.removeprefix(f"{one.label}/")  # of a missing case no more is known
            found.setdefault(known.get(own, own), {})[one.label] = case
    for each in found.values():
        if len(each) == len(sides) and all(case.state == "done" for case in each.values()):
            continue
        first = next(iter(each.values()))
        states = {one.label: _told(each.get(one.label)) for one in sides}
        keys = tuple(case.key for case in each.values() if case.key in same)
        yield {"study": first.study, "case": first.label, **states, RECORDS: keys}


def _told(case: side.Standing | None) -> str | None:
    if case is None:
        return None
    return f"{case.state}: {case.reason}" if case.reason else case.state
