"""The committed baseline: what its suite gave, in parts of which none is ever rewritten.

Its parts are the table of cases, versions and figures: a renewal adds those whose versions were
raised and leaves all before it as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.core import store
from benchmarks.core.naming import labels
from benchmarks.core.record import Record
from benchmarks.gate import guard, sources
from benchmarks.measure.dispatched import ARRAYS, OPERATORS
from benchmarks.measure.machine import git

KEPT_NOTES = (OPERATORS, ARRAYS)


def renew(folder: Path, target: Path) -> int:
    """Add the new records of a results folder to the baseline ``target``; how many there are.

    New cases that failed are kept as such: that they fail is known. ValueError where ``folder`` is
    no results folder, lacks cases of its plan or mixes what cannot be compared; where it shares no
    case with the baseline that is there, for then it is of another suite; where a case fails that
    was measured before; and where figures moved and no version was raised.
    """
    fresh = {record.key: record for record in sources.finished(folder).records}
    before = store.read(target) if store.is_folder(target) else {}
    if before and not before.keys() & fresh.keys():
        raise ValueError(
            f"{str(folder)!r} shares no case with the baseline in {str(target)!r}: give the "
            "results of its suite, or another --target"
        )
    names = labels(record.case for record in fresh.values())
    for key, record in fresh.items():
        if key in before and (fault := guard.refusal(before[key], record)):
            raise ValueError(f"{names[record.case.key]}: {fault}")
    new = [
        _stripped(record)
        for key, record in fresh.items()
        if key not in before or guard.raised(before[key], record)
    ]
    if fault := next(guard.contradictions([*store.history(target), *new]), ""):
        raise ValueError(f"{fault}: raise a version once more")
    target.mkdir(parents=True, exist_ok=True)
    if new:
        store.write_part(target, [(record, {}) for record in new])
    if (path := folder / "suite.json").is_file():
        store.replace(target / "suite.json", path.read_bytes())
    return len(new)


def faults(target: Path, base: str | None = None) -> Iterator[str]:
    """What is wrong with a baseline: contradictions, and parts that a base commit has otherwise.

    ValueError where ``base`` is no commit of the repository that holds the baseline.
    """
    yield from guard.contradictions(store.history(target))
    if base is None:
        return
    listed = git(target, "ls-tree", "-r", f"{base}^{{commit}}", "--", ".")
    for line in listed.splitlines():
        about, _, name = line.partition("\t")
        path, committed = target / Path(name).name, about.split()[2]
        if path.suffix != ".parquet":
            continue
        if not path.is_file():
            yield f"{path.name} of {base} is missing: a part of the baseline is never removed"
        elif git(target, "hash-object", path.name) != committed:
            yield f"{path.name} is not that of {base}: a part of the baseline is never rewritten"


def _stripped(record: Record) -> Record:
    """A record without what a clock or the machine decided."""
    metrics = {name: m for name, m in record.metrics.items() if m.kind != "time"}
    notes = {name: record.notes[name] for name in KEPT_NOTES if name in record.notes}
    none: dict[str, Any] = {
        "arrays": {},
        "machine": {},
        "seconds": None,
        "shared": None,
        "block": None,
    }
    return record.model_copy(update={"metrics": metrics, "notes": notes, **none})
