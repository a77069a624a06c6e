"""What an exact trace in closed form costs beside the loop, the estimate, and its own evaluations.

The field is a tanh MLP with two hidden layers, solved by dopri5 at 1e-5 with float32 on two threads
and differentiated through the steps. Competitors share its parameters and run interleaved in one
process; ``extra_info`` has their raw seconds and the ratio of their medians with its 95 % bootstrap
interval, while pytest-benchmark itself times the closed form. With benchmarks disabled each work
runs once, on few rows.

Comparisons are made with a heap that keeps what tensors leave behind (`clock.steady_heap`), so that
they depend on no other benchmark of the process. A training step is compared with the heap as it
comes too, in a process of its own: there every tensor that is kept for the backward pass costs the
pages that it fills, which is what a user pays.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

import flows
from benchmarks.analysis import stats
from benchmarks.measure.clock import interleave
from flows import Flow
from flows.continuous import CNF, Solver, Trace
from flows.continuous.point import Point

Work = Callable[[], object]
Samples = dict[str, list[float]]

CASES = [(2, 64, 512), (8, 160, 1000), (43, 430, 500)]  # D, H, N
THREADS = 2
SECONDS, ROUNDS = 30.0, 60
FEW = 16  # rows of a smoke test


@pytest.fixture(autouse=True)
def _threads(benchmark: Any) -> Iterator[None]:
    """Two threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS if benchmark.enabled else before)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=CASES, ids=lambda case: "D{}-H{}-N{}".format(*case))
def case(request: pytest.FixtureRequest, benchmark: Any) -> tuple[Flow, Tensor]:
    """The exact flow and a batch; what they are is noted."""
    dim, hidden, rows = request.param
    benchmark.extra_info |= {"flow": "cnf", "dim": dim, "hidden": hidden, "rows": rows}
    benchmark.extra_info["threads"] = THREADS
    return made(dim, hidden, rows if benchmark.enabled else FEW)


def made(dim: int, hidden: int, rows: int) -> tuple[Flow, Tensor]:
    """The exact flow and a batch."""
    torch.manual_seed(0)
    flow = flows.build("cnf", dim, hidden=hidden, solver=Solver(gradient="backprop"))
    return flow, torch.randn(rows, dim)


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


def training_steps(flow: Flow, x: Tensor) -> dict[str, Work]:
    """A training step with the closed form, and one with Hutchinson's estimate."""
    return {"closed_form": training_step(flow, x), "hutchinson": training_step(estimated(flow), x)}


def estimated(flow: Flow) -> Flow:
    """The same flow with Hutchinson's estimate by one probe."""
    return flow.using(trace="hutchinson", noise=0)


def with_heap_as_it_comes(dim: int, hidden: int, rows: int, threads: int) -> Samples:
    """Raw seconds of both training steps; for a process whose heap nobody has made steady."""
    torch.set_num_threads(threads)
    works = training_steps(*made(dim, hidden, rows))
    return interleave(works, seconds=SECONDS, rounds=(9, ROUNDS), heap="default")


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
        benchmark.extra_info |= compared(samples, first, second, per)
    benchmark(works[timed])


def compared(samples: Samples, first: str, second: str, per: int = 1) -> dict[str, object]:
    """The first's median over ``per`` times the second's, its interval, and the raw seconds."""
    scaled = [per * seconds for seconds in samples[second]]
    ratio, low, high = stats.ratio_of_medians(samples[first], scaled)
    seconds = {name: samples[name] for name in (first, second)}
    return {
        "ratio": ratio, "interval": [low, high], "of": f"{first}/{second}", "seconds": seconds,
    }  # fmt: skip


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
    benchmark.extra_info["nfe"] = {
        "closed_form": nfe(flow, x), "hutchinson": nfe(estimated(flow), x),
    }  # fmt: skip
    if benchmark.enabled:
        shape = (x.shape[1], benchmark.extra_info["hidden"], len(x), THREADS)
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawned) as pool:
            samples = pool.submit(with_heap_as_it_comes, *shape).result()
        as_it_comes = compared(samples, "closed_form", "hutchinson")
        benchmark.extra_info["heap_as_it_comes"] = as_it_comes
    compare(benchmark, training_steps(flow, x), timed="closed_form")


def bench_solve_to_evaluations(benchmark: Any, case: tuple[Flow, Tensor]) -> None:
    """log_prob over the evaluations of field and trace that it makes: what the solver adds."""
    flow, x = case
    benchmark.extra_info["nfe"] = {"closed_form": nfe(flow, x)}
    works = {"closed_form": density(flow, x), "evaluation": evaluation(flow, x)}
    per = benchmark.extra_info["nfe"]["closed_form"]
    compare(benchmark, works, timed="closed_form", per=per)
