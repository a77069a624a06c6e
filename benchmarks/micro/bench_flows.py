"""Seconds of log_prob, a training step and sampling, for flows of this package and plug-ins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import flows
from benchmarks.measure.operations import Operations

pytestmark = pytest.mark.usefixtures("flowgauge_reference")
DIM, ROWS = 8, 128


def built(name: str, **options: Any) -> flows.Flow:
    """A registered flow at its default sizes, initialised from data."""
    torch.manual_seed(0)
    return flows.build(name, DIM, **options).initialize(torch.randn(256, DIM))


def log_prob(flow: flows.Flow) -> Callable[[], object]:
    """The density of a batch, without gradient."""
    x = torch.randn(ROWS, DIM)
    return lambda: torch.no_grad()(flow.log_prob)(x)


def training_step(flow: flows.Flow) -> Callable[[], object]:
    """Loss, gradient and update on a batch."""
    x = torch.randn(ROWS, DIM)
    optimiser = torch.optim.Adam(flow.parameters())

    def call() -> None:
        optimiser.zero_grad()
        flow.loss(x).backward()
        optimiser.step()

    return call


OPERATIONS: dict[str, Callable[[flows.Flow], Callable[[], object]]] = {
    "log_prob": log_prob,
    "training_step": training_step,
    "sample": lambda flow: lambda: flow.sample(ROWS),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", flows.own())
def bench_seconds(benchmark: Any, name: str, operation: str) -> None:
    """One operation of one flow; its FLOPs and NFE stand beside the seconds."""
    flow = built(name)
    call = OPERATIONS[operation](flow)
    call()
    with flows.count_nfe(flow) as nfe, Operations() as operations:
        call()
    benchmark.group = operation
    benchmark.extra_info |= {
        "metric": f"{operation.removeprefix('training_')}_seconds",
        "flops": operations.flops,
        "nfe": nfe.forward + nfe.backward,
        "flow": name,
        "dim": DIM,
        "rows": ROWS,
        "threads": torch.get_num_threads(),
    }
    benchmark(call)
