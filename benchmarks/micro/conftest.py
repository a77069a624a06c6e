"""Files of pytest-benchmark that are small enough to be committed, and counts without scale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from benchmarks.measure.machine import commit

SAMPLES = 200  # raw samples of a benchmark that a file holds


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Thin the raw samples evenly, so that files are small enough to be committed."""
    for benchmark in output_json["benchmarks"]:
        if data := benchmark["stats"].get("data"):
            benchmark["stats"]["data"] = data[:: max(1, -(-len(data) // SAMPLES))]
    output_json["commit_info"]["id"] = commit() or output_json["commit_info"].get("id", "")


def pytest_benchmark_scale_unit(unit: str, benchmarks: list[Any]) -> tuple[str, float] | None:
    """Print counts without scale: pytest-benchmark puts an "s" behind the unit."""
    if not all("counts" in benchmark["extra_info"] for benchmark in benchmarks):
        return None
    return ("FLOP", 1.0) if unit == "seconds" else ("", 1.0)


@pytest.fixture(autouse=True)
def _one_thread_untimed(benchmark: Any) -> Iterator[None]:
    """Use one thread if nothing is timed: tests may run on other cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if benchmark.enabled else 1)
    yield
    torch.set_num_threads(before)
