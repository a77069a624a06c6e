"""Calls whose cost is measured, and the clock: shuffled rounds, what ends them, a steady heap."""

from __future__ import annotations

import itertools
import json
import platform
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.measure import clock
from benchmarks.measure.calls import COUNTED, calls, measured
from benchmarks.measure.clock import REFERENCE, interleave
from benchmarks.measure.operations import lu_flops
from benchmarks.studies.contender import Contender
from measuring import cases_of, results_of

SIZES = {"hidden": 8, "depth": 2, "layers": 2}
BATCH = 4


def made(
    name: str, dim: int = 6, *, settings: dict[str, Any] | None = None, **options: Any
) -> Case:
    complete = Contender(flow=name, options=options).complete(SIZES, dim)
    return Case(
        study="cost", flow=name, dim=dim, batch=BATCH, options=complete, settings=settings or {}
    )


def test_every_call_is_timed_and_a_fault_costs_no_other() -> None:
    """Construction too, which is not counted; the case that cannot be built has its reason."""
    good, bad = (made("realnvp", dim, settings={"seconds": 0.01}) for dim in (2, 1))
    results = dict(measured([bad, good], lambda case, result: {"log_prob_error": 0.5}))
    assert results.keys() == {good.key, bad.key}
    assert "at least two columns" in results[bad.key].failure
    metrics = results[good.key].metrics
    timed = {name for name in metrics if METRICS[name].kind == "time"}
    first = {f"{name}_first" for name in COUNTED}
    assert timed == {f"{name}_seconds" for name in (*COUNTED, *first, "build", "reference")}
    assert all(np.min(metrics[name]) > 0 for name in timed)
    assert metrics["log_prob_error"] == 0.5


@pytest.mark.parametrize("dim", [2, 5, 12])
def test_a_dense_determinant_is_an_lu_a_sample_and_layer(dim: int) -> None:
    """The rest of log_prob forms the Jacobian; couplings have no determinant to factorise."""
    layers = SIZES["layers"]
    counted = calls(made("dense", dim)).count()[0]
    assert counted["log_prob_determinant_flops"] == BATCH * layers * lu_flops(dim)
    naive = calls(made("glow", dim, linear="naive")).count()[0]
    assert naive["log_prob_determinant_flops"] == layers * lu_flops(dim)  # once a batch
    assert calls(made("realnvp", dim)).count()[0]["log_prob_determinant_flops"] == 0


def test_the_random_stream_does_not_decide_a_count() -> None:
    """Samples are drawn from one seed, so an inverse that iterates does so as often each time."""
    counts = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        metrics = calls(made("dense"))
        torch.manual_seed(seed)
        counts.append(metrics.count()[0]["sample_flops"])
    assert counts[0] == counts[1]


def test_interleaving_keeps_every_sample_and_times_a_reference_beside():
    calls = []
    works = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    samples = interleave(works, seconds=1e-9, rounds=(3, 5))
    assert set(samples) == {"a", "b", REFERENCE}
    assert all(len(values) >= 3 for values in samples.values())
    assert calls.count("a") == len(samples["a"]) + 3  # those that size the rounds
    assert all(value >= 0 for values in samples.values() for value in values)


# minor page faults per page of a hundred tensors of 1 MiB, after timing with either heap
FAULTS = """
import json, resource, torch
from benchmarks.measure.clock import interleave

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.empty(2**18).fill_(1) for _ in range(100)]
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

shares = []
for heap in ("default", "steady"):
    interleave({"a": lambda: None}, seconds=1e-9, rounds=(1, 1), heap=heap)
    faults()
    shares.append(sum(faults() for _ in range(5)) / (5 * 100 * 2**20 / 4096))
print(json.dumps(shares))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_steady_heap_serves_large_tensors_again_and_the_default_one_does_not():
    """In a process of its own, whose heap nothing else has set."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    default, steady = json.loads(done.stdout)
    assert default > 0.5
    assert steady < 0.02


def test_rounds_end_when_the_times_are_steady(monkeypatch):
    """From the least number for that on, or when the seconds or the rounds are spent."""
    for spread, done in ((0.01, 7), (0.2, 9)):
        ticks = itertools.cycle([1.0, 1.0, 1.0 + spread, 1.0 - spread])
        monkeypatch.setattr(clock, "seconds_of", lambda work, device, ticks=ticks: next(ticks))
        samples = interleave({"a": lambda: None}, seconds=60, rounds=(3, 9), steady=7)
        assert len(samples["a"]) == done


TRAINED = {
    "datasets": ["8gaussians"],
    "sizes": SIZES,
    "batch": 16,
    "updates": 2,
    "training": {"validations": 1, "validation_rows": 50},
}
SCORING = {
    "rows": 100, "checked_rows": 50, "compared_rows": 100, "projections": 5, "grid": 8,
    "samples": 20, "seconds": 0,
}  # fmt: skip
RK4 = {"solver": {"method": "rk4", "step_size": 0.5, "gradient": "backprop"}}
OPTIONS: dict[str, dict[str, Any]] = {
    "cost": {"flows": ["realnvp"], "dims": [2], "sizes": SIZES, "batch": 4, "seconds": 0},
    "trace": {"dims": [2], "sizes": SIZES, "batch": 4, "draws": 100, "seconds": 0},
    "numerics": {
        **{**TRAINED, "part": "gradients", "updates": [0], "solvers": {"rk4": [0.5]}},
        **{"dtypes": ["float64"], "seconds": 0},
    },
    "nfe": {
        **TRAINED, "flows": [{"flow": "cnf", "options": RK4}], "tolerances": [0.1], "seconds": 0,
    },
    "density": {
        **TRAINED, "flows": ["realnvp"], "baselines": ["gaussian"], "scoring": SCORING,
    },
}  # fmt: skip
FROM_THE_LOOP = {
    "train_process_seconds",
    "train_cpu_seconds",
}  # sums of updates, which are timed in any case


@pytest.mark.parametrize("name", OPTIONS)
def test_no_seconds_give_counts_and_no_times(name: str) -> None:
    cases = cases_of(name, OPTIONS[name])
    results = results_of(cases)
    assert len(results) == len(cases) > 0
    for result in results.values():
        assert not result.failure
        kinds = {METRICS[metric].kind for metric in result.metrics.keys() - FROM_THE_LOOP}
        assert kinds
        assert "time" not in kinds
