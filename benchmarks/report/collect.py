"""Collect a report from records: ask studies and claims, and number the exhibits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd

from benchmarks.core import exhibit
from benchmarks.core.exhibit import RECORDS, Column
from benchmarks.core.frame import Plan
from benchmarks.report import claims, facts, runs
from benchmarks.report.content import Claims, Report, Section, Table
from benchmarks.report.numbered import Exhibits
from benchmarks.report.references import References
from benchmarks.report.runs import Run
from benchmarks.report.sections import fill, noted, sections


def collect(folders: Sequence[Path]) -> Report:
    """Collect the report of results folders; ValueError for one that is none.

    Several are one long frame, whose series name their run. Runs whose times are of different
    machines or versions of torch are shown one after another, never in one table.
    """
    every = runs.read(folders)
    numbered = Exhibits({key: text for run in every for key, text in run.cautions.items()})
    listed = sections(every)
    frames = runs.side_by_side(every)
    for section in listed:
        for frame in frames:
            names = ", ".join(frame["run"].unique()) if len(frames) > 1 else ""
            fill(section, frame, numbered, f" ({names})" if names else "")
    claim_section = claims.judge(every, noted)
    verdicts = numbered.table(claim_section.table, "report") if claim_section.judgements else None
    by_run = numbered.table(claim_section.by_run, "report") if claim_section.by_run else None
    undone = _undone(every, numbered)  # before the list of records, which a page shows last
    records, references = _cited(listed, every, numbered)
    heads = {run.label: facts.header(run) for run in every}
    depths = {run.label: facts.provenance(list(run.records.values()), run.outside) for run in every}
    return Report(
        _plan(every),
        facts.beside(heads),
        listed,
        undone,
        facts.beside(depths),
        records,
        references,
        Claims(claim_section, verdicts, by_run) if verdicts else None,
        tuple(run.label for run in every),
    )


def _plan(every: Sequence[Run]) -> Plan:
    if len(every) == 1:
        return every[0].plan
    abouts = {run.label: [facts.Fact("", (run.plan.about or run.plan.name,))] for run in every}
    return Plan(
        name=" vs ".join(run.label for run in every),
        about=" ".join(facts.beside(abouts)[0].lines),
        suite={run.label: run.plan.suite for run in every},
    )


def _cited(
    listed: Iterable[Section], every: Sequence[Run], numbered: Exhibits
) -> tuple[Table | None, References]:
    """The list of all records, None of none, and their numbers: those of a row in a row."""
    sources: list[Iterable[str]] = []
    for section in listed:
        for table in section.tables:
            sources += table.rows_from
        sources += [figure.records for figure in section.figures]
    named = list(dict.fromkeys(chain.from_iterable(sources)))
    orders = ([key for key in named if key in run.records] + list(run.records) for run in every)
    stale = chain.from_iterable(run.stale for run in every)
    references = References.of(chain(*orders, named), stale)
    known = {key: facts for run in every for key, facts in run.listed()}
    rows = [
        {"No.": number, "Record": key, **known.get(key, {"State": "not in the plan"})}
        for key, number in references.numbers.items()
    ]
    note = (
        "Numbered in the order in which the rows of the tables name them. Times: why they are not "
        "to be quoted, where they are not."
    )
    frame = pd.DataFrame(rows).dropna(axis="columns", how="all")
    columns = {"Seconds": Column(digits=".1f")}
    listing = exhibit.Table("records", "Records", note, frame, columns)
    return (numbered.table(listing, "report") if rows else None), references


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
    return numbered.table(table, "report")
