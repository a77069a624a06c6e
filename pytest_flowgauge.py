"""Fixtures of pytest by which `flowgauge compare` can judge the benchmarks of any project.

Every session in an environment with flowgauge loads this plug-in. So it imports nothing before a
fixture is used, and lies beside the packages: a repository may have a ``benchmarks`` of its own.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FACTS = "flowgauge"  # what a file's ``machine_info`` has of this plug-in
REFERENCES = 15  # samples of the reference workload before a benchmark, and after it
MACHINE = ("cpu", "cores", "system", "python", "blas", "instructions", "threads")
HOME = Path(__file__).resolve().parent
_used = pytest.StashKey[bool]()
_kept: dict[str, ModuleType] = {}  # modules of ours whose names belong to others


@pytest.fixture
def flowgauge_reference(benchmark: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    """Time the reference workload before and after a benchmark.

    Its seconds are then judged as multiples of the workload's, on machines of one class.
    """
    request.config.stash[_used] = True
    if not benchmark.enabled:
        yield
        return
    with packages():
        from benchmarks.measure.clock import reference_workload, seconds_of
    work = reference_workload()
    work()
    samples = [seconds_of(work) for _ in range(REFERENCES)]
    yield
    samples += [seconds_of(work) for _ in range(REFERENCES)]
    benchmark.extra_info["reference_seconds"] = samples


@pytest.fixture
def flowgauge_counts(
    benchmark: Any, request: pytest.FixtureRequest
) -> Callable[..., dict[str, int]]:
    """Count the operations of a call, beside a benchmark: ``flowgauge_counts(call, "log_prob")``.

    The function runs the call once, on torch's seed 0, and returns the counts that the file then
    has as exact metrics: FLOPs, element operations, and evaluations of the fields of a ``flow``.
    ValueError for an operation that the table of metrics lacks.
    """
    request.config.stash[_used] = True

    def count(
        call: Callable[[], object], operation: str = "call", flow: Any = None
    ) -> dict[str, int]:
        with packages():
            import torch

            from benchmarks.core.metrics import METRICS
            from benchmarks.measure.memory import steady
            from benchmarks.measure.operations import Operations
            from flows import count_nfe
        if f"{operation}_flops" not in METRICS:
            known = ", ".join(n.removesuffix("_flops") for n in METRICS if n.endswith("_flops"))
            raise ValueError(f"no operation {operation!r} can be counted; choose from: {known}")
        torch.manual_seed(0)
        with steady(), count_nfe(flow or torch.nn.Module()) as nfe, Operations() as operations:
            call()
        counts = {"flops": operations.flops, "pointwise": operations.elements}
        counts |= {} if flow is None else {"nfe": nfe.forward + nfe.backward}
        exact = {n: v for what, v in counts.items() if (n := f"{operation}_{what}") in METRICS}
        benchmark.extra_info.setdefault("counts", {}).update(exact)
        return exact

    return count


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Add what decides whether times are comparable, where a benchmark uses a fixture."""
    if not config.stash.get(_used, False):
        return
    with packages():
        from benchmarks.core.case import PROTOCOL
        from benchmarks.measure.machine import machine, versions
    facts = {name: value for name, value in machine().items() if name in MACHINE}
    machine_info[FACTS] = {**facts, "versions": dict(versions()), "protocol": PROTOCOL}


@contextmanager
def packages() -> Iterator[None]:
    """Import ``flows`` and ``benchmarks`` of this distribution within, whatever has their names."""
    contested = [name for name in ("flows", "benchmarks") if not _is_ours(name)]
    theirs = _taken(contested)
    sys.modules.update({m: _kept[m] for m in _kept if m.partition(".")[0] in contested})
    try:
        for name in contested:
            if name not in sys.modules:
                _load(name)
        yield
    finally:
        _kept.update(_taken(contested))
        sys.modules.update(theirs)


def _is_ours(name: str) -> bool:
    """Whether an import of a package gives that of this distribution."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module that somebody has put there
        return False
    origin = None if spec is None else spec.origin
    return origin is not None and Path(origin).resolve() == HOME / name / "__init__.py"


def _taken(names: list[str]) -> dict[str, ModuleType]:
    """Remove the modules of some packages from those that are imported, and return them."""
    own = [module for module in sys.modules if module.partition(".")[0] in names]
    return {module: sys.modules.pop(module) for module in own}


def _load(name: str) -> None:
    """Import a package of this distribution by its place."""
    folder = HOME / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
