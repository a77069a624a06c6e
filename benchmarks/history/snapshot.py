"""A snapshot: the figures of one commit, taken from the records of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, PlainSerializer

from benchmarks.core.case import digest
from benchmarks.core.frame import cautions, long_frame, minor, plan_of
from benchmarks.core.record import Record
from benchmarks.gate import sources
from benchmarks.gate.sources import Entry
from benchmarks.gate.times import relative
from benchmarks.measure.machine import git
from flows.registry import Declared

SCHEMA = 1
DIRTY = "-dirty"


def _short(value: float) -> float | int:
    """A number to ten digits, beyond which machines round otherwise; whole ones as they are."""
    return int(value) if value == int(value) else float(f"{value:.10g}")


Number = Annotated[float, PlainSerializer(_short)]


class Quality(NamedTuple):
    """A quality of one seed, and its standard error over the test set; None if not known."""

    value: Number
    error: Number | None = None


class Figures(BaseModel, extra="ignore"):
    """The figures of a case by metric.

    ``key`` is that of the case without its seeds, as the commit's own code made it. ``versions``
    has what the case depends on, unless version and pace are 1, ``files`` the content hashes of
    plug-ins and data files. Qualities are by seed, times are medians in times of the reference
    workload beside them; ``caution`` is why these are not to be quoted.
    """

    key: str
    label: str
    versions: dict[str, Declared] = {}
    files: dict[str, str] = {}
    exact: dict[str, Number] = {}
    quality: dict[str, dict[str, Quality]] = {}
    times: dict[str, Number] = {}
    caution: str = ""


class Snapshot(BaseModel, extra="ignore"):
    """One commit as one run of a suite measured it, or the reason for which none could.

    ``place`` is the class of the machine with the minor version of torch, ``failed`` has the
    reasons of cases by label.
    """

    commit: str
    dirty: bool = False
    date: datetime
    subject: str = ""
    suite: str = ""
    measured: str = ""
    torch: str = ""
    place: str = ""
    reason: str = ""
    failed: dict[str, str] = {}
    cases: tuple[Figures, ...] = ()

    @property
    def revision(self) -> str:
        """The commit in full, with "-dirty" if its tree had changes."""
        return self.commit + DIRTY * self.dirty

    @property
    def name(self) -> str:
        """The same with eight digits of the commit."""
        return self.commit[:8] + DIRTY * self.dirty

    def line(self) -> str:
        """The snapshot as its line of JSON."""
        content = {"schema": SCHEMA, **self.model_dump(mode="json", exclude_defaults=True)}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def blank(commit: str, repository: Path, **fields: object) -> Snapshot:
    """A snapshot without figures; ValueError for a commit that the repository lacks."""
    name = commit.removesuffix(DIRTY)
    try:
        facts = git(repository, "show", "-s", "--format=%H%x00%cI%x00%s", f"{name}^{{commit}}")
    except ValueError as error:
        raise ValueError(
            f"commit {name[:12]} is not known here: go to the repository that it is of ({error})"
        ) from None
    full, date, subject = facts.split("\0")
    about = {"commit": full, "dirty": commit != name, "date": date, "subject": subject}
    return Snapshot.model_validate(about | fields)


def of_folder(folder: Path, repository: Path, *, dirty: bool = False) -> Snapshot:
    """The snapshot of a results folder, at the commit that its records name.

    ValueError where they name none, several, one that the repository lacks, or, unless ``dirty``,
    a tree with changes; where cases of the plan lack, and where records are of several machines.
    """
    source = sources.finished(folder)
    commit = _only("commits", folder, [record.commit for record in source.records])
    if not commit:
        raise ValueError(
            f"the records of {str(folder)!r} name no commit of flowgauge, whose history it is: "
            "measure in a checkout of it; flowgauge ab --package compares those of another library"
        )
    if commit.endswith(DIRTY) and not dirty:
        raise ValueError(
            f"{str(folder)!r} was measured in a tree with changes ({commit}): commit them and "
            "measure again, or take it with --dirty"
        )
    records = {record.key: record for record in source.records}
    entries = list(sources.entries(source, source)[1].values())
    frame = long_frame(folder, records)
    notes = dict(zip(frame["key"], cautions(frame), strict=True))
    done = [entry for entry in entries if entry.status == "done"]
    return blank(
        commit,
        repository,
        suite=plan_of(folder, records).name,
        measured=max(record.started for record in source.records),
        torch=minor(source.records[0].versions),
        place=_only("machines", folder, [entry.place for entry in entries if entry.place]),
        failed={e.label: f"{e.status}: {e.reason}" for e in entries if e.status != "done"},
        cases=[
            _figures(label, group, notes) for label, group in sources.grouped(done).items()
        ],
    )  # fmt: skip


def _only(what: str, folder: Path, values: Sequence[str]) -> str:
    """The one value of all records, "" without any; ValueError for several."""
    several = sorted(set(values))
    if len(several) > 1:
        raise ValueError(
            f"{str(folder)!r} has records of {len(several)} {what} ({', '.join(several)}): "
            "measure all of them in a fresh folder"
        )
    return several[0] if several else ""


def _figures(label: str, group: Sequence[Entry], notes: Mapping[str, str]) -> Figures:
    """The figures of a case's seeds."""
    records = [_record(entry) for entry in group]
    first = records[0]
    raised = {n: d for n, d in first.declared.items() if d != Declared()}
    figures = Figures(key=_key(first), label=label, versions=raised, files=first.files)
    for name, metric in group[0].metrics.items():
        having = [entry for entry in group if name in entry.metrics]
        values = {e.seed: v for e in having if (v := e.median(name)) is not None}
        kind = group[0].kind(name)
        if metric.better == "neither" or not values or not _finite(values.values()):
            continue
        if kind == "exact":
            figures.exact[name] = sum(values.values()) / len(values)
        elif kind == "quality":
            errors = {entry.seed: entry.median(f"{name}_se") for entry in having}
            figures.quality[name] = {s: Quality(v, errors[s]) for s, v in values.items()}
        else:
            samples = [s for e in having if (s := relative(e, name)) is not None]
            ratios = [float(np.median(s)) for s in samples]
            if ratios and _finite(ratios) and min(ratios) > 0:
                figures.times[name] = sum(ratios) / len(ratios)
    if figures.times:
        figures.caution = next(filter(None, (notes[record.key] for record in records)), "")
    return figures


def _finite(values: Collection[float]) -> bool:
    return all(map(math.isfinite, values))


def _record(entry: Entry) -> Record:
    assert entry.record is not None  # those of a results folder have one
    return entry.record


def _key(record: Record) -> str:
    """The key of a record's case without its seeds."""
    return digest({n: part for n, part in record.identity.items() if n != "seeds"})[:16]
