"""FLOPs of every registered flow, by a timer whose clock is the FLOP counter.

What pytest-benchmark prints as seconds are FLOPs, equal in every run, so that its own
``--benchmark-compare-fail=min:0%`` is free of noise. An ODE is solved by four steps of rk4, since
the data decide the number of adaptive ones. A flow that chooses its steps itself is left out, and
so is sampling, since inverses iterate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flows
from benchmarks.micro.bench_flows import DIM, OPERATIONS, ROWS, built

SOLVER = {"method": "rk4", "step_size": 0.25, "gradient": "backprop"}


class FlopClock:
    """A clock that shows the FLOPs counted so far."""

    flops = 0.0

    def __call__(self) -> float:
        return self.flops


CLOCK = FlopClock()


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("operation", ["log_prob", "training_step"])
@pytest.mark.parametrize("name", flows.own())
def bench_flops(
    benchmark: Any, flowgauge_counts: Callable[..., dict[str, int]], name: str, operation: str
) -> None:
    """FLOPs of one operation of one flow; element operations and NFE beside them."""
    defaults = flows.members[name].defaults
    if not {"rtol", "atol"}.isdisjoint(defaults):
        pytest.skip(f"{name} chooses its steps itself")
    flow = built(name, **({"solver": SOLVER} if "solver" in defaults else {}))
    call, metric = OPERATIONS[operation](flow), operation.removeprefix("training_")
    call()

    def count() -> None:
        CLOCK.flops += flowgauge_counts(call, metric, flow)[f"{metric}_flops"]
        del benchmark.extra_info["counts"][f"{metric}_flops"]  # the clock shows them

    benchmark.group = f"FLOPs of {metric}"
    benchmark.extra_info |= {"metric": f"{metric}_flops", "flow": name, "dim": DIM, "rows": ROWS}
    benchmark.extra_info["threads"] = 1
    benchmark.pedantic(count)
