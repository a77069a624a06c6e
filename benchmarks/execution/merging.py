"""Merging results folders: every record once, and nothing lost where two have the same key."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.core import locks, store
from benchmarks.core.frame import Plan, plan_of
from benchmarks.core.record import Record
from benchmarks.execution.run import CHECKPOINTS
from benchmarks.execution.versions import standing

SUPERSEDED = "superseded"  # the subfolder of records that were not taken


@dataclass(frozen=True)
class Conflict:
    """Different records of one key: the folder whose record was taken, and the one set aside."""

    label: str
    taken: Path
    superseded: Path


def merge(sources: Sequence[Path], target: Path) -> list[Conflict]:
    """Put the records of results folders into one; the conflicts between them.

    Of two different records of a key the current one is taken; of two that are alike in this, the
    newer one. The other goes to ``superseded/``. Records that the target has already count as well,
    and the sources stay as they are. The plan is that of the sources, or all their cases together.
    FolderError for a folder that cannot be read, held or written, ValueError for one that is not a
    results folder or is named twice.

    A new target is a draft beside its place until it is whole. One that exists gets the plan first.
    After a kill the same merge gives what it would have given.
    """
    folders = [store.existing(source) for source in sources]
    paths = [folder.resolve() for folder in (*folders, target)]
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise ValueError(f"{str(twice[0])!r} is named twice: merge different folders into another")
    new, target = not target.exists(), target.resolve()
    place = target.with_name(f".{target.name}.merging") if new else target
    with _draft(place) if new else locks.held(place):
        store.sweep(place, *place.glob("*"), *place.glob(f"{SUPERSEDED}/*/{store.RECORDS}"))
        base = [place] if store.is_folder(place) else []
        records_of = {folder: store.read(folder) for folder in (*base, *folders)}
        incoming = {key for folder in folders for key in records_of[folder]}
        if protected := store.newer(place).keys() & incoming:
            what = f"{str(target)!r} has a record of {min(protected)} of a newer schema"
            raise store.FolderError(f"{what}: update flowgauge, or merge elsewhere")
        store.set_aside(place)
        plans = [plan_of(folder, records) for folder, records in records_of.items()]
        text = json.dumps(_joined(plans).model_dump(mode="json"), indent=1)
        store.replace(place / "suite.json", text.encode())
        conflicts = [conflict for source in folders for conflict in _add(source, place)]
        if new:
            os.replace(place, target)
    return [replace(c, taken=target) if c.taken == place else c for c in conflicts]


@contextmanager
def _draft(place: Path) -> Iterator[None]:
    """Hold a folder that is empty, and gone at the end."""
    with locks.held(place):
        try:
            for path in place.iterdir():  # of a merge that was killed
                shutil.rmtree(path) if path.is_dir() else None
            yield
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _add(source: Path, target: Path) -> list[Conflict]:
    """Add one folder's records, and files of cases that are not done."""
    there, conflicts = store.read(target), []
    for key, record in store.read(source).items():
        before, arrays = there.get(key), store.arrays_of(source, record)
        if before is None:
            store.write(target, record, arrays)
        elif before != record and _rank(record) > _rank(before):
            aside = target / SUPERSEDED / _mark(before)
            store.write(aside, before, store.arrays_of(target, before))
            store.write(target, record, arrays)
            conflicts.append(Conflict(record.case.label, source, target))
        elif before != record:
            store.write(target / SUPERSEDED / _mark(record), record, arrays)
            conflicts.append(Conflict(record.case.label, target, source))
    over = {key for key, record in store.read(target).items() if record.status == "done"}
    for path in (source / CHECKPOINTS).glob("*"):
        needed = path.is_file() and path.name.partition("-")[0] not in over
        if needed and not (target / CHECKPOINTS / path.name).exists():
            (target / CHECKPOINTS).mkdir(exist_ok=True)
            store.replace(target / CHECKPOINTS / path.name, path.read_bytes())
    return conflicts


def _rank(record: Record) -> tuple[bool, str]:
    """What decides between two records of a key: whether it is current; its date."""
    return not standing(record).reason, record.started


def _mark(record: Record) -> str:
    """A folder's name for a record that was set aside: when it was measured, and its block."""
    return re.sub(r"[^\w+-]", "", f"{record.started}-{record.block or 'unknown'}")[:80]


def _joined(plans: Sequence[Plan]) -> Plan:
    """One plan with the cases of several, each once, and their suite if it is the same."""
    cases = {
        (case.key, json.dumps(case.roles, sort_keys=True)): case
        for plan in plans
        for case in plan.cases
    }
    first, *others = (plan.suite for plan in plans)
    names = dict.fromkeys(name for plan in plans for name in plan.name.split("+"))
    about = ""
    for plan in plans:  # a joined plan says already what its parts say
        about += f" {plan.about}" * (plan.about not in about)
    suite = first if all(other == first for other in others) else {}
    return Plan(name="+".join(names), about=about.strip(), suite=suite, cases=list(cases.values()))
