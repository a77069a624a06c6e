"""Facts of the machine in pytest-benchmark's files, and the reference workload beside times."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest
import torch

from benchmarks.core.case import PROTOCOL
from benchmarks.measure.clock import reference_workload, seconds_of
from benchmarks.measure.machine import commit, machine, versions

REFERENCES = 15  # samples of the reference workload before a benchmark, and as many after it
MACHINE = ("cpu", "cores", "system", "python", "blas", "instructions")
SAMPLES = 200  # raw samples of a benchmark that a file holds


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """Facts of the machine as in records, without those that change from minute to minute.

    pytest-benchmark warns if any of them differs from those of what it compares with.
    """
    facts = {name: value for name, value in machine().items() if name in MACHINE}
    return {**facts, "versions": dict(versions()), "protocol": PROTOCOL}


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
    """Use one thread if nothing is timed: tests may run on the other cores."""
    before = torch.get_num_threads()
    if not benchmark.enabled:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Time the reference workload before and after a benchmark, on its threads."""
    benchmark: Any = pyfuncitem.funcargs.get("benchmark")
    counts = pyfuncitem.get_closest_marker("benchmark")
    if benchmark is None or not benchmark.enabled or counts is not None:
        return (yield)
    work = reference_workload()
    work()
    samples = [seconds_of(work) for _ in range(REFERENCES)]
    result = yield
    samples += [seconds_of(work) for _ in range(REFERENCES)]
    benchmark.extra_info["reference_seconds"] = samples
    return result
