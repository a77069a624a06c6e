"""Records on disk: one JSON a case, its arrays beside it, written so that no half is ever read."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS

Status = Literal["done", "failed", "skipped", "timeout"]


class Values(BaseModel, extra="forbid", ser_json_inf_nan="strings"):
    """The raw values of one metric, with what they mean."""

    unit: str
    better: str
    kind: str
    values: list[float]

    @classmethod
    def of(cls, name: str, values: float | list[float]) -> Values:
        """Values under the definition in `METRICS`."""
        metric = METRICS[name]
        listed = values if isinstance(values, list) else [values]
        numbers = [float(value) for value in listed]
        return cls(unit=metric.unit, better=metric.better, kind=metric.kind, values=numbers)


class Record(BaseModel, extra="forbid"):
    """What became of one case."""

    case: Case
    key: str
    fingerprint: str
    status: Status
    reason: str = ""
    metrics: dict[str, Values] = {}
    arrays: str | None = None  # sha256 of records/<key>.npz
    notes: dict[str, Any] = {}  # what belongs to the numbers and is none: operators not counted
    machine: dict[str, Any] = {}
    versions: dict[str, str] = {}
    commit: str = ""
    started: str = ""
    seconds: float = 0.0


def write(folder: Path, record: Record, arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write a record into a results folder, atomically: the arrays first, the JSON last."""
    records = folder / "records"
    records.mkdir(parents=True, exist_ok=True)
    if arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        replace(records / f"{record.key}.npz", buffer.getvalue())
        record.arrays = hashlib.sha256(buffer.getvalue()).hexdigest()
    replace(records / f"{record.key}.json", record.model_dump_json(indent=1).encode())


def read(folder: Path) -> dict[str, Record]:
    """All whole records of a results folder by key; a corrupt file is named and set aside."""
    return {record.key: record for record in _records(folder)}


def load(folder: str | Path) -> pd.DataFrame:
    """All records of a results folder as one frame, a row a case.

    The case's fields are columns, its options ``option.*``, its settings ``setting.*``; each
    metric is a column with the median of its values, and ``<metric>.values`` holds them raw.
    ``arrays`` is the path of the case's npz, or None.
    """
    folder = existing(Path(folder))
    return frame(folder, read(folder).values())


def existing(folder: Path) -> Path:
    """The folder itself; ValueError where it holds no records."""
    if not (folder / "records").is_dir():
        raise ValueError(f"{str(folder)!r} is not a results folder: it has no records/")
    return folder


def frame(folder: Path, records: Iterable[Record]) -> pd.DataFrame:
    """Records of a results folder that were read before, as `load` shows them."""
    return pd.DataFrame([_row(folder, record) for record in records])


def arrays(row: Any) -> dict[str, np.ndarray]:
    """The arrays of a row of `load`; empty where the case has none."""
    path = row["arrays"]
    if not isinstance(path, str):
        return {}
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _row(folder: Path, record: Record) -> dict[str, Any]:
    case = record.case.model_dump(mode="json")
    row = {k: v for k, v in case.items() if k not in ("options", "settings", "seeds")}
    row |= {f"option.{k}": v for k, v in record.case.options.items()}
    row |= {f"setting.{k}": v for k, v in record.case.settings.items()}
    row |= {"seed": record.case.seeds.init, "key": record.key, "status": record.status}
    row |= {"reason": record.reason, "fingerprint": record.fingerprint, "commit": record.commit}
    row |= {"started": record.started, "seconds": record.seconds}
    row |= {"machine": record.machine, "versions": record.versions, "notes": record.notes}
    row["arrays"] = str(folder / "records" / f"{record.key}.npz") if record.arrays else None
    for name, metric in record.metrics.items():
        row[name] = float(np.median(metric.values)) if metric.values else float("nan")
        row[f"{name}.values"] = metric.values
    return row


def _records(folder: Path) -> Iterator[Record]:
    for path in sorted((folder / "records").glob("*.json")):
        try:
            record = Record.model_validate_json(path.read_bytes())
            if record.key != path.stem or record.case.key != record.key:
                raise ValueError(f"its key is {record.key}, its case's {record.case.key}")
            if record.arrays and _sha256(path.with_suffix(".npz")) != record.arrays:
                raise ValueError("its arrays are missing or not those that were measured")
        except (ValidationError, ValueError, OSError) as error:
            _set_aside(path, error)
        else:
            yield record


def _set_aside(path: Path, error: Exception) -> None:
    corrupt = path.parent.parent / "corrupt"
    corrupt.mkdir(exist_ok=True)
    for part in (path, path.with_suffix(".npz")):
        if part.exists():
            os.replace(part, corrupt / part.name)
    reason = str(error).splitlines()[0]
    warnings.warn(
        f"record {path.name} is corrupt and was set aside in {corrupt}: {reason}", stacklevel=2
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def replace(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, which holds either all of it or what it held before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
