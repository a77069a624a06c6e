"""Calls whose cost is measured: counts that repeat, a determinant's part, what a table shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import flows
from benchmarks.core.case import Case
from benchmarks.core.metrics import METRICS
from benchmarks.measure.calls import COUNTED, calls, measured
from benchmarks.measure.operations import lu_flops
from benchmarks.studies.contender import Contender

SIZES = {"hidden": 8, "depth": 2, "layers": 2}
BATCH = 4


def made(
    name: str, dim: int = 6, *, settings: dict[str, Any] | None = None, **options: Any
) -> Case:
    complete = Contender(flow=name, options=options).complete(SIZES, dim)
    return Case(
        study="cost", flow=name, dim=dim, batch=BATCH, options=complete, settings=settings or {}
    )


@pytest.mark.parametrize("name", flows.own())
def test_every_family_has_all_calls_and_counts_that_repeat(name: str) -> None:
    """Counted twice from the same seeds they are equal, and each call is a metric."""
    first, second = (calls(made(name)).count()[0] for _ in range(2))
    assert first == second
    assert set(first) <= set(METRICS)
    assert first["parameters"] > 0
    for call in COUNTED:
        assert first[f"{call}_flops"] + first[f"{call}_pointwise"] > 0
    solved = first["step_nfe"] >= first["log_prob_nfe"]  # else the loss is a regression
    assert (first["step_pointwise"] > first["log_prob_pointwise"]) == solved
    assert 0 <= first["log_prob_determinant_flops"] <= first["log_prob_flops"]


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
