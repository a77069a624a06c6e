"""Records as a run would have written them, in folders for the gate."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from benchmarks.core import store
from benchmarks.core.case import Case, Seeds
from benchmarks.core.record import Record, Values
from benchmarks.gate.verdict import Verdict

cli = CliRunner()
HERE = {"cpu": "a processor", "cores": 2, "system": "Linux", "threads": 1}
Metrics = dict[str, float | list[float]]


def record(case: Case, metrics: Metrics, **fields) -> Record:
    """A record of a case as a run would have written it."""
    values = {name: Values.of(name, value) for name, value in metrics.items()}
    about = {"versions": {"torch": "2.13.0"}, "machine": HERE, "status": "done", **fields}
    return Record(case=case, key=case.key, identity=case.identity, metrics=values, **about)


def cost(dim: int = 2, flops: float = 100, **fields) -> Record:
    """A record of counts and times."""
    case = {"threads": 1, "settings": {"seconds": 1.0}, **fields.pop("case", {})}
    metrics = {"log_prob_flops": flops, "log_prob_seconds": [0.2] * 9, "reference_seconds": [0.1]}
    return record(Case(study="cost", flow="realnvp", dim=dim, batch=4, **case), metrics, **fields)


def density(seed: int, test_ll: float, se: float = 0.01, flow: str = "maf") -> Record:
    """A record of a trained flow."""
    case = Case(study="density", flow=flow, dim=6, batch=4, seeds=Seeds.of(seed), dataset="magic")
    return record(case, {"test_ll": test_ll, "test_ll_se": se})


def folder(path: Path, *records: Record) -> Path:
    """A results folder of these records."""
    for record in records:
        store.write(path, record)
    return path


def outcomes(verdict: Verdict) -> dict[str, str]:
    """What became of each metric that did not stay, or "case"."""
    return {c.metric or "case": c.outcome for c in verdict.notable}
