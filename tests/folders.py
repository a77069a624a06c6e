"""Results folders of one small case at several batches, and their content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

import benchmarks
from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.study import Common
from records import record_of

BATCH = 4


def case_of(batch: int = BATCH) -> Case:
    return Common().case(study="cost", flow="realnvp", dim=2, batch=batch)


def put(folder: Path, batch: int = BATCH, arrays=None, **metrics) -> Path:
    """Write a record into a folder; its file."""
    record = record_of(case_of(batch), metrics)
    store.write(folder, record, arrays)
    return folder / store.RECORDS / f"{record.key}.json"


def values(folder: Path) -> dict[int, dict[str, tuple[float, ...]]]:
    """Metrics of a folder's records by the batch of their cases."""
    records = store.read(folder).values()
    return {r.case.batch: {name: m.values for name, m in r.metrics.items()} for r in records}


def arrays_of(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """Arrays of a folder's records by the batch of their cases."""
    return {row["batch"]: store.arrays(row) for _, row in benchmarks.load(folder).iterrows()}


def content(folder: Path) -> dict[str, str]:
    """Every file of a folder by its content."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def edit(path: Path, **fields) -> None:
    """Change fields of a record's JSON."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
