"""Seconds of a training, a density and its samples, measured alone on the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import flows
from benchmarks.core.case import Case
from benchmarks.core.study import Result
from benchmarks.datasets import Dataset
from benchmarks.measure.clock import interleave
from benchmarks.training import seconds as trainings
from flows.continuous import SolveError
from flows.training import Objective, own_loss

ROWS = 1000  # of the test set in one call of log_prob, and samples in one call of sample


def timed(
    case: Case,
    data: Dataset,
    kept: Mapping[str, Tensor],
    seconds: float,
    objective: Objective = own_loss,
) -> Result:
    """Time a training that is kept, and log_prob and samples of its flow, by their own solver.

    ``seconds`` is the time to spend on all of them.
    """
    flow = trainings.trained(case, data, kept).using(trace="exact")
    x = data.test[:ROWS].to(case.device, getattr(torch, case.dtype))
    updates = trainings.updates(case, data, kept, objective)
    works: dict[str, Callable[[], object]] = {f"update {n}": one for n, one in updates.items()}
    notes: dict[str, Any] = {}
    for name, call in calls(flow, x).items():
        try:
            call()
        except SolveError as error:  # the other times are measured
            notes["no_speed"] = f"{name} cannot be timed: {error}"
        else:
            works[name] = call
    samples = interleave(works, seconds=seconds, device=case.device)
    metrics = rates(samples, len(x))
    if not updates:
        return Result(metrics, notes=notes)
    rows = [r for n, one in updates.items() for r in one.calls[-len(samples[f"update {n}"]) :]]
    of_all = trainings.total(kept, [sample for row in rows for sample in row])
    metrics["train_seconds"], until, notes["update_seconds"] = of_all
    return Result(metrics, {"validation_seconds": until}, notes)


def calls(flow: flows.Flow, x: Tensor) -> dict[str, Callable[[], object]]:
    """Return the calls that are timed: log_prob of x (N, D), and drawing `ROWS` samples."""

    def log_prob() -> None:
        with torch.no_grad():
            flow.log_prob(x)

    return {"log_prob": log_prob, "sample": lambda: flow.sample(ROWS)}


def rates(samples: Mapping[str, list[float]], rows: int) -> dict[str, Any]:
    """Metrics from seconds of calls: log_prob of ``rows`` rows, drawing `ROWS` samples."""
    metrics: dict[str, Any] = {"reference_seconds": samples["reference"]}
    if "log_prob" in samples:
        metrics["per_1000_seconds"] = [seconds * 1000 / rows for seconds in samples["log_prob"]]
    if "sample" in samples:
        metrics["sample_rate"] = [ROWS / seconds for seconds in samples["sample"]]
    return metrics
