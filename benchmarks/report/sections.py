"""The sections of a report: ask each study for its figures and tables, and note faults."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pandas as pd

from benchmarks.core import study as studies
from benchmarks.core.exhibit import Figure, Table
from benchmarks.core.frame import quotable
from benchmarks.report.content import Section
from benchmarks.report.numbered import Exhibits, Names
from benchmarks.report.runs import Run
from flows.plugins import FOREIGN, described


def sections(runs: Sequence[Run]) -> list[Section]:
    """A section for each planned study, with its question and what to note of its records."""
    anchors, listed = Names(), []
    for study in dict.fromkeys(case.study for run in runs for case in run.plan.cases):
        section = Section(study, anchors.name(study))
        with noted(section.notes, f"Study {study!r}"):
            section.question = str(studies.registry[study].question)
            for run in runs:
                name = f"{run.label}: " if len(runs) > 1 else ""
                section.notes += [f"{name}Study {study!r}: {text}" for text in _notes(run, study)]
        listed.append(section)
    return listed


def fill(section: Section, frame: pd.DataFrame, numbered: Exhibits, suffix: str = "") -> None:
    """Ask a study for what it shows of a frame; ``suffix`` is added to every title."""
    study = section.study
    if study not in studies.registry or frame.empty:
        return
    definition = studies.registry[study]
    if not (frame["study"] == study).any():
        return
    rows = frame[frame["study"].isin([study, *definition.reads])].reset_index(drop=True)
    with noted(section.notes, f"Study {study!r}: what its records say"):
        section.says += definition.says(quotable(rows, numbered.cautions))
    figures: list[Figure] = []
    with noted(section.notes, f"Study {study!r}: its figures"):
        figures = list(definition.figures(rows.copy()))
    tables: list[Table] = []
    with noted(section.notes, f"Study {study!r}: its tables"):
        tables = list(definition.tables(rows.copy()))
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
    own = run.frame[run.frame["study"] == study] if len(run.frame) else run.frame
    if own.empty and all(case.study != study for case in run.plan.cases):
        return  # of another suite
    if own.empty:
        yield "no case has been measured yet"
        return
    alike = own.fillna({"dataset": ""}).groupby(["flow", "dataset"])["fingerprint"]
    if (versions := int(alike.nunique().max())) > 1:
        text = f"measured by more than one version of the code ({versions})"
        yield f"{text}, so that its rows may not be comparable"
    for state, what in (("stale", "stale"), ("stale in times", "stale in their times")):
        stale = [case for case in run.states if (case.study, case.state) == (study, state)]
        reasons = dict.fromkeys(case.reason for case in stale)
        if stale:
            yield f"{len(stale)} of {own['key'].nunique()} records are {what}: {'; '.join(reasons)}"
    if run.note:
        yield run.note
