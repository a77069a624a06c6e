"""FLOPs of every registered flow, by a timer whose clock is the FLOP counter.

What pytest-benchmark prints as seconds is FLOPs: equal in every run, so that its own
``--benchmark-compare-fail=min:0%`` is free of noise. Every call is counted in one round on one
thread, after it has run once. An ODE is solved by four steps of rk4, since the number of adaptive
ones is the data's; a flow that lets no such solver be chosen is left out, and so is sampling, since
inverses iterate.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import flows
from benchmarks.measure.memory import steady
from benchmarks.measure.operations import Operations
from benchmarks.micro.bench_flows import OPERATIONS

DIM, ROWS = 8, 128
SOLVER = {"method": "rk4", "step_size": 0.25, "gradient": "backprop"}


_counted: list[int] = []


def flop_clock() -> float:
    """The FLOPs counted so far."""
    return float(sum(_counted))


@pytest.fixture(params=flows.names())
def flow(request: pytest.FixtureRequest, benchmark: Any) -> flows.Flow:
    """Each registered flow at its default sizes, on fixed steps."""
    defaults = flows.members[request.param].defaults
    if not {"rtol", "atol"}.isdisjoint(defaults):
        pytest.skip(f"{request.param} chooses its steps itself")
    torch.manual_seed(0)
    options: dict[str, Any] = {"solver": SOLVER} if "solver" in defaults else {}
    benchmark.extra_info |= {"flow": request.param, "dim": DIM, "rows": ROWS, "threads": 1}
    return flows.build(request.param, DIM, **options).initialize(torch.randn(256, DIM))


@pytest.mark.benchmark(timer=flop_clock)
@pytest.mark.parametrize("operation", ["log_prob", "training_step"])
def bench_flops(benchmark: Any, flow: flows.Flow, operation: str) -> None:
    """FLOPs of one operation of one flow; element operations and NFE beside them."""
    name, call = operation.removeprefix("training_"), OPERATIONS[operation](flow)
    call()

    def counted() -> None:
        torch.manual_seed(0)
        with steady(), flows.count_nfe(flow) as nfe, Operations() as operations:
            call()
        _counted.append(operations.flops)
        counts = {"pointwise": operations.elements, "nfe": nfe.forward + nfe.backward}
        benchmark.extra_info["counts"] = {f"{name}_{what}": n for what, n in counts.items()}

    benchmark.group = f"FLOPs of {name}"
    benchmark.extra_info |= {"metric": f"{name}_flops"}
    benchmark.pedantic(counted)
