"""What an exact trace in closed form costs beside the loop, the estimate, and its own evaluations.

The field is a tanh MLP with two hidden layers, solved by dopri5 at 1e-5 with float32 on two threads
and differentiated through the steps. Competitors share its parameters and run interleaved in one
process; ``extra_info`` has their raw seconds and the ratio of their medians with its 95 % bootstrap
interval, while pytest-benchmark itself times the closed form. With benchmarks disabled each work
runs once, on few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import flows
from benchmarks import stats
from benchmarks.measure.clock import interleave
from flows import Flow
from flows.continuous import CNF, Solver, Trace
from flows.continuous.point import Point

Work = Callable[[], object]

CASES = [(2, 64, 512), (8, 160, 1000), (43, 430, 500)]  # D, H, N
THREADS = 2
SECONDS, ROUNDS = 12.0, 60
FEW = 16  # rows of a smoke test


@pytest.fixture(autouse=True)
def _threads(benchmark: Any) -> Iterator[None]:
    """Two threads, whatever the machine has; one where nothing is timed, and others may run."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS if benchmark.enabled else 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=CASES, ids=lambda case: "D{}-H{}-N{}".format(*case))
def case(request: pytest.FixtureRequest, benchmark: Any) -> tuple[Flow, Tensor]:
    """The exact flow and a batch; what they are is noted."""
    dim, hidden, rows = request.param
    torch.manual_seed(0)
    flow = flows.build("cnf", dim, hidden=hidden, solver=Solver(gradient="backprop"))
    benchmark.extra_info |= {"flow": "cnf", "dim": dim, "hidden": hidden, "rows": rows}
    benchmark.extra_info["threads"] = THREADS
    return flow, torch.randn(rows if benchmark.enabled else FEW, dim)


def density(flow: Flow, x: Tensor) -> Work:
    """log_prob without gradient."""

    def work() -> None:
        with torch.no_grad():
            flow.log_prob(x)

    return work


def training_step(flow: Flow, x: Tensor) -> Work:
    """Loss and gradient, without an optimiser."""

    def work() -> None:
        flow.zero_grad()
        flow.loss(x).backward()

    return work


def evaluation(flow: Flow, x: Tensor) -> Work:
    """One evaluation of field and closed form, without gradient."""
    (ode,) = (module for module in flow.modules() if isinstance(module, CNF))
    t, trace = torch.tensor(0.5), Trace.of("closed_form")

    def work() -> None:
        with torch.no_grad():
            trace.rate(Point(ode.field, t, x, None), None)

    return work


def nfe(flow: Flow, x: Tensor) -> int:
    """Evaluations of one log_prob."""
    with flows.count_nfe(flow) as counted:
        density(flow, x)()
    return counted.forward


def compare(
    benchmark: Any, works: dict[str, Work], *, timed: str, per: int = 1, least: int = 9
) -> None:
    """Time one work; note the first's median over ``per`` times the second's."""
    first, second = works
    if not benchmark.enabled:
        works[second if timed == first else first]()
    else:
        samples = interleave(works, seconds=SECONDS, rounds=(least, ROUNDS))
        scaled = [per * seconds for seconds in samples[second]]
        ratio, low, high = stats.ratio_of_medians(samples[first], scaled)
        benchmark.extra_info |= {"ratio": ratio, "interval": [low, high], "of": f"{first}/{second}"}
        benchmark.extra_info["seconds"] = {name: samples[name] for name in works}
    benchmark(works[timed])


def bench_exact_to_loop(benchmark: Any, case: tuple[Flow, Tensor]) -> None:
    """log_prob: the closed form over the loop of D products."""
    flow, x = case
    loop = flow.using(trace="loop")
    benchmark.extra_info["nfe"] = {"closed_form": nfe(flow, x), "loop": nfe(loop, x)}
    works = {"closed_form": density(flow, x), "loop": density(loop, x)}
    compare(benchmark, works, timed="closed_form")


def bench_exact_to_estimate(benchmark: Any, case: tuple[Flow, Tensor]) -> None:
    """A training step: the closed form over Hutchinson's estimate with one probe."""
    flow, x = case
    estimate = flow.using(trace="hutchinson", noise=0)
    benchmark.extra_info["nfe"] = {"closed_form": nfe(flow, x), "hutchinson": nfe(estimate, x)}
    works = {"closed_form": training_step(flow, x), "hutchinson": training_step(estimate, x)}
    compare(benchmark, works, timed="closed_form")


def bench_solve_to_evaluations(benchmark: Any, case: tuple[Flow, Tensor]) -> None:
    """log_prob over the evaluations of field and trace that it makes: what the solver adds."""
    flow, x = case
    benchmark.extra_info["nfe"] = {"closed_form": nfe(flow, x)}
    works = {"closed_form": density(flow, x), "evaluation": evaluation(flow, x)}
    per = benchmark.extra_info["nfe"]["closed_form"]
    compare(benchmark, works, timed="closed_form", per=per)
