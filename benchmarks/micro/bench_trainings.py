"""Seconds of a training that has the machine to itself, beside the sum over its updates."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import datasets
from benchmarks.core.study import Common
from benchmarks.evaluation.speed import timed
from benchmarks.training import seconds
from benchmarks.training.history import History
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from benchmarks.training.state import prepared
from flows import Flow

pytestmark = pytest.mark.usefixtures("flowgauge_reference")
UPDATES = {"realnvp": 1000, "glow": 1000, "cnf": 300, "ffjord": 300}  # the last two are adaptive


@pytest.mark.parametrize("name", UPDATES)
def bench_training(benchmark: Any, name: str) -> None:
    """One training; ``sum_to_process`` is `train_seconds` over the seconds of its process."""
    updates = UPDATES[name] if benchmark.enabled else 10
    case = Common().case(
        study="density",
        flow=name,
        dim=2,
        dataset="8gaussians",
        batch=256,
        updates=updates,
        settings={"training": Training().model_dump()},
    )
    data = datasets.load("8gaussians")

    def alone() -> tuple[Flow, History]:
        flow, settings = prepared(case, data)
        return flow, train(flow, data, case, settings)

    flow, history = benchmark.pedantic(alone, rounds=1)
    kept = seconds.kept(flow, history)
    assert kept is not None  # no operators are counted here
    result = timed(case, data, kept, 2.0 if benchmark.enabled else 0.01)
    benchmark.extra_info |= {
        "metric": "train_process_seconds",
        "flow": name,
        "updates": updates,
        "process_seconds": history.seconds,
        "sum_to_process": result.metrics["train_seconds"] / history.seconds,
    }
