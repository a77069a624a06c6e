"""Records of tests, as a run would write them, and results folders of them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import benchmarks
from benchmarks.core import store
from benchmarks.core.case import Case, Seeds
from benchmarks.core.record import Record, Values
from benchmarks.core.study import Common, Result
from benchmarks.datasets.disk import Absent
from benchmarks.execution.versions import dependencies
from benchmarks.gate.verdict import Verdict
from flows.registry import Declared

BATCH = 4  # of a case, unless a test has several
HERE = {"cpu": "a processor", "cores": 2, "system": "Linux", "threads": 1}
Metrics = dict[str, float | list[float]]


def record_of(case: Case, metrics: Mapping[str, Any] | None = None, **fields: Any) -> Record:
    """A record of a case, done unless ``fields`` say otherwise."""
    values = {name: Values.of(name, value) for name, value in (metrics or {}).items()}
    content = {"status": "done", "metrics": values, "declared": declared_now(case)} | fields
    return Record(case=case, key=case.key, identity=case.identity, **content)


def declared_now(case: Case) -> Mapping[str, Declared]:
    """What the flow and the data of a case declare now, whether its study is registered or not."""
    try:
        return dependencies(case.changed(study="cost")).declared
    except (Absent, ValueError):
        return {}


def record_result(case: Case, result: Result) -> Record:
    status = "failed" if result.failure else "done"
    notes = dict(result.notes)
    return record_of(case, result.metrics, status=status, reason=result.failure, notes=notes)


def write_result(folder: Path, case: Case, result: Result) -> None:
    store.write(folder, record_result(case, result), result.arrays)


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
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def record(case: Case, metrics: Metrics, **fields) -> Record:
    """A record of this machine, which declares no versions."""
    about = {"versions": {"torch": "2.13.0"}, "machine": HERE, "declared": {}}
    return record_of(case, metrics, **about | fields)


def cost(dim: int = 2, flops: float = 100, **fields) -> Record:
    """A record of counts and times."""
    case = {"threads": 1, "settings": {"seconds": 1.0}, **fields.pop("case", {})}
    metrics = {"log_prob_flops": flops, "log_prob_seconds": [0.2] * 9, "reference_seconds": [0.1]}
    return record(Case(study="cost", flow="realnvp", dim=dim, batch=4, **case), metrics, **fields)


def density(seed: int, test_ll: float, flow: str = "maf") -> Record:
    """A record of a trained flow."""
    case = Case(study="density", flow=flow, dim=6, batch=4, seeds=Seeds.of(seed), dataset="magic")
    return record(case, {"test_ll": test_ll, "test_ll_se": 0.01})


def folder(path: Path, *records: Record) -> Path:
    for record in records:
        store.write(path, record)
    return path


def outcomes(verdict: Verdict) -> dict[str, str]:
    """What became of each metric that did not stay, or "case"."""
    return {c.metric or "case": c.outcome for c in verdict.notable}
