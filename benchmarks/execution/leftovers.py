"""What runs leave in a folder that nobody needs: the next run that has it to itself removes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.core import store
from benchmarks.core.record import Record
from benchmarks.core.store import RECORDS
from benchmarks.execution.recorder import CHECKPOINTS
from benchmarks.training import PLATEAU


def sweep(folder: Path, records: Mapping[str, Record]) -> None:
    """Remove temporary files, and what trainings kept that have their record since.

    A run was killed before it could. Of cases that failed, or wait for their times, all is kept.
    """
    store.sweep(folder, folder / RECORDS, folder / CHECKPOINTS)
    for path in (folder / CHECKPOINTS).glob("*"):
        if (record := records.get(path.name.partition("-")[0])) is None:
            continue
        done = record.status == "done" and not record.pending
        if done and path.stat().st_mtime <= _written(folder, record.key):
            path.unlink()


def tidy(folder: Path) -> None:
    """Remove the files that trainings share, once none is left that would go on from one."""
    for path in (folder / CHECKPOINTS).glob(f"{PLATEAU}-*"):
        path.unlink(missing_ok=True)


def _written(folder: Path, key: str) -> float:
    """When a record was written, by the file system's clock."""
    loose = folder / RECORDS / f"{key}.json"
    return max(p.stat().st_mtime for p in ([loose] if loose.exists() else store.tables(folder)))
