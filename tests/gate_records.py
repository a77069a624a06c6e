"""Records as a run would have written them, and a gate between two folders of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.core import store
from benchmarks.core.case import Case, Seeds
from benchmarks.core.record import Record, Values
from benchmarks.gate import compare
from benchmarks.gate.comparison import Verdict

cli = CliRunner()
HERE = {"cpu": "a processor", "cores": 2, "system": "Linux", "threads": 1}
Metrics = dict[str, float | list[float]]


def record(case: Case, metrics: Metrics, **fields) -> Record:
    """A record of a case as a run would have written it."""
    values = {name: Values.of(name, value) for name, value in metrics.items()}
    about = {"versions": {"torch": "2.13.0"}, "machine": HERE, "status": "done", **fields}
    return Record(case=case, key=case.key, fingerprint="f", metrics=values, **about)


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
    for each in records:
        store.write(path, each)
    return path


@pytest.fixture
def gate(tmp_path) -> Callable[..., Verdict]:
    """Compares two lists of records; the folders are base and new, then base2 and new2, ..."""
    made = itertools.count(1)

    def judge(base: list[Record], new: list[Record], **options) -> Verdict:
        number = next(made)
        suffix = "" if number == 1 else str(number)
        sides = folder(tmp_path / f"base{suffix}", *base), folder(tmp_path / f"new{suffix}", *new)
        return compare(*sides, **options)

    return judge


def outcomes(verdict: Verdict) -> dict[str, str]:
    """What became of each metric that did not stay, or "case"."""
    told = [c for c in verdict.comparisons if c.outcome not in ("stayed", "incomparable")]
    return {found.metric or "case": found.outcome for found in told}


# exact counts, of calls that are really counted
