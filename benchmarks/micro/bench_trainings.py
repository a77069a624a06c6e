"""Seconds of a training that has the machine to itself, by the clock and of its processor."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import datasets
from benchmarks.core.study import Common
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from benchmarks.training.state import History, prepared

pytestmark = pytest.mark.usefixtures("flowgauge_reference")
UPDATES = {"realnvp": 1000, "glow": 1000, "cnf": 300, "ffjord": 300}  # the last two are adaptive


@pytest.mark.parametrize("name", UPDATES)
def bench_training(benchmark: Any, name: str) -> None:
    """One training; ``cpu_to_process`` is its CPU seconds over those by the clock."""
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

    def alone() -> History:
        flow, settings = prepared(case, data)
        return train(flow, data, case, settings)

    history = benchmark.pedantic(alone, rounds=1)
    benchmark.extra_info |= {
        "metric": "train_process_seconds",
        "flow": name,
        "updates": updates,
        "process_seconds": history.seconds,
        "cpu_to_process": history.cpu_seconds / history.seconds,
    }
