"""What a study shows of a side's records, and what has to be said about it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd

from benchmarks.core import study as studies
from benchmarks.core.exhibit import Figure, Table
from benchmarks.report.side import Side


def question(study: str, notes: list[str]) -> str:
    """A study's question; a note where there is no such study."""
    with noted(notes, f"Study {study!r}"):
        return str(studies.registry[study].question)
    return ""


def exhibits(side: Side, study: str, notes: list[str]) -> tuple[list[Figure], list[Table]]:
    """Ask a study for what it shows; whatever it cannot make becomes a note."""
    if study not in studies.registry:
        return [], []
    asked = studies.registry[study]
    own, rows = (_of(side.frame, names) for names in ((study,), (study, *asked.reads)))
    if own.empty:
        notes.append(f"Study {study!r}: no case has been measured yet")
        return [], []
    notes += _cautions(own, study, side)
    figures: list[Figure] = []
    with noted(notes, f"Study {study!r}: its figures"):
        figures = list(asked.figures(rows.copy()))
    tables: list[Table] = []
    with noted(notes, f"Study {study!r}: its tables"):
        tables = list(asked.tables(rows.copy()))
    return figures, tables


def _cautions(own: pd.DataFrame, study: str, side: Side) -> Iterator[str]:
    same = own.fillna({"dataset": ""}).groupby(["flow", "dataset"])["fingerprint"]
    versions = int(same.nunique().max())
    if versions > 1:
        text = f"Study {study!r}: measured by more than one version of the code ({versions})"
        yield f"{text}, so that its rows may not be comparable"
    if count := len(set(side.stale) & set(own["key"])):
        text = f"Study {study!r}: {count} of {len(own)} records are stale"
        yield f"{text}: the code that measures them has changed since"


def _of(frame: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """The rows of these studies."""
    return frame[frame["study"].isin(names)].reset_index(drop=True) if len(frame) else frame


@contextmanager
def noted(notes: list[str], what: str) -> Iterator[None]:
    """One study's fault must not lose the rest: it is noted, and warned about."""
    try:
        yield
    except Exception as error:
        text = f"{what} could not be shown: {type(error).__name__}: {error}"
        notes.append(text)
        warnings.warn(text, stacklevel=3)
