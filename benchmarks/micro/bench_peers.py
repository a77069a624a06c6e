"""zuko's CNF beside ours on one ODE, at equal accuracy.

Both have the very same field: a tanh MLP with two hidden layers that does not see the time (zuko's
``freqs=0``, our ``time="ignore"``) and shares its weights, which are the initial ones times 1 or 2:
initial ones make a field that zuko solves in one step, doubled ones take it four. Of the solvers
with rtol r and atol r or 100 r, r in quarter decades from 1e-1 down, each side gets the one with
the fewest evaluations whose log_prob in float32, with the trace that is timed, is off by at most
1e-4 at each of 64 rows, against the solution in float64 at 1e-10 of the same ODE. zuko divides
atol by a hundred for x alone, begins with a step over the whole interval, and bounds the largest
error; of ours the first step and the error norm are chosen too. zuko's gradient goes through the
steps with each of them computed again, ours is gradient="backprop". ``extra_info`` has zuko's
median over ours.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

import flows
from benchmarks.micro.bench_continuous import FEW, Work, compare, density, nfe, training_step
from benchmarks.micro.bench_continuous import _threads as _threads
from flows import Flow
from flows.adapters.zuko import from_zuko
from flows.continuous import MLPField, Solver

zuko_flows: Any = pytest.importorskip("zuko.flows")

DIM, HIDDEN, ROWS = 43, 430, 500
ACCURACY = 1e-4
SEARCHED = 64  # rows at which it is looked for
GAINS = [1.0, 2.0]
GRID = [10.0 ** (-quarter / 4) for quarter in range(4, 29)]


def pair(dim: int, hidden: int, gain: float) -> dict[str, Flow]:
    """zuko's exact CNF and ours with the same weights, initial ones times ``gain``."""
    torch.manual_seed(0)
    sizes: Any = {"hidden_features": (hidden, hidden), "activation": nn.Tanh, "freqs": 0}
    theirs = zuko_flows.CNF(dim, 0, exact=True, **sizes)
    ours = flows.build("cnf", dim, hidden=hidden, time="ignore")
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(gain)
    (field,) = (module for module in ours.modules() if isinstance(module, MLPField))
    linear = [module for module in theirs.modules() if hasattr(module, "weight")]
    for layer, given in zip(field.layers, linear, strict=True):
        layer.load_state_dict(given.state_dict())
    return {"zuko": from_zuko(theirs, dim), "flowgauge": ours}


def solver(rtol: float, atol: float, **options: Any) -> Solver:
    """dopri5, differentiated through its steps."""
    return Solver(rtol=rtol, atol=atol, gradient="backprop", **options)


CHOICES: dict[str, list[dict[str, Any]]] = {
    "zuko": [{}],
    "flowgauge": [
        {"first_step": first_step, "error_norm": norm}
        for first_step in (None, 1 / 4, 1 / 3, 1 / 2, 1.0)
        for norm in ("all", "sample")
    ],
}


def _same_noise(x: Tensor) -> Tensor:
    return torch.randn(x.shape).to(x)


@torch.no_grad()
def solution(flow: Flow, x: Tensor) -> Tensor:
    """log_prob in float64 at 1e-10, of the probes that float32 has."""
    precise = copy.deepcopy(flow).double().using(solver=solver(1e-10, 1e-10))
    with mock.patch.object(torch, "randn_like", _same_noise):  # where zuko draws them
        return precise.log_prob(x.double())


@torch.no_grad()
def accurate(flow: Flow, x: Tensor, choices: list[dict[str, Any]]) -> tuple[Flow, dict[str, Any]]:
    """The flow at the solver with the fewest evaluations that is accurate, and what it is."""
    expected = solution(flow, x)
    found: list[tuple[int, Flow, dict[str, Any]]] = []
    for scale, options in itertools.product((1, 100), choices):
        for rtol in GRID:
            chosen = solver(rtol, scale * rtol, **options)
            view = flow.using(solver=chosen)
            error = float((view.log_prob(x).double() - expected).abs().max())
            if error <= ACCURACY:
                found.append((nfe(view, x), view, {**dataclasses.asdict(chosen), "error": error}))
                break
    _, view, information = min(found, key=lambda candidate: candidate[0])
    return view, information


@pytest.fixture(params=GAINS)
def both(
    request: pytest.FixtureRequest, benchmark: Any, _threads: None
) -> tuple[dict[str, Flow], Tensor]:
    """zuko's flow and ours, one ODE, and a batch; small if not timed."""
    dim, hidden, rows = (DIM, HIDDEN, ROWS) if benchmark.enabled else (4, 16, FEW)
    flow, x = pair(dim, hidden, request.param), torch.randn(rows, dim)
    torch.testing.assert_close(*(solution(f, x[:2]) for f in flow.values()), rtol=0, atol=1e-6)
    sizes = {"gain": request.param, "dim": dim, "hidden": hidden, "rows": rows}
    benchmark.extra_info |= {**sizes, "threads": torch.get_num_threads()}
    return flow, x


def _timed(benchmark: Any, flow: dict[str, Flow], x: Tensor, work: Callable[..., Work]) -> None:
    choices = {name: made if benchmark.enabled else made[:1] for name, made in CHOICES.items()}
    chosen = {name: accurate(view, x[:SEARCHED], choices[name]) for name, view in flow.items()}
    benchmark.extra_info["solvers"] = {name: what for name, (_, what) in chosen.items()}
    benchmark.extra_info["nfe"] = {name: nfe(view, x) for name, (view, _) in chosen.items()}
    works = {name: work(view, x) for name, (view, _) in chosen.items()}
    compare(benchmark, works, timed="flowgauge", least=3)


def bench_density(benchmark: Any, both: tuple[dict[str, Flow], Tensor]) -> None:
    """Exact log_prob without gradient."""
    _timed(benchmark, *both, density)


def bench_training_step(benchmark: Any, both: tuple[dict[str, Flow], Tensor]) -> None:
    """Loss and gradient with Hutchinson's estimate on both sides, its probes fixed."""
    flow, x = both
    views = {name: f.using(trace="hutchinson", noise=0) for name, f in flow.items()}
    _timed(benchmark, views, x, training_step)
