"""zuko's CNF beside ours on one ODE, at equal accuracy.

Both have the very same field: a tanh MLP with two hidden layers that does not see the time (zuko's
``freqs=0``, our ``time="ignore"``) and shares its weights, which are the initial ones times 1 or 2:
initial ones make a field that zuko solves in one step, doubled ones take it four. Of the solvers
with rtol r and atol r or 100 r, r in half decades from 1e-1 down, each side gets the one with the
fewest evaluations whose exact log_prob in float32 is off by at most 1e-4 at each of 64 rows,
against the solution in float64 at 1e-10 of the ODE that they share. (zuko divides atol by a hundred
for x alone.) The training step takes the same tolerances. zuko's gradient goes through the steps
with each of them computed again, ours is gradient="backprop". ``extra_info`` has zuko's median over
ours.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flows
from benchmarks.micro.bench_continuous import FEW, compare, density, nfe, training_step
from benchmarks.micro.bench_continuous import _threads as _threads
from flows import Flow
from flows.adapters.zuko import from_zuko
from flows.continuous import MLPField, Solver

zuko_flows: Any = pytest.importorskip("zuko.flows")

DIM, HIDDEN, ROWS = 43, 430, 500
ACCURACY = 1e-4
SEARCHED = 64  # rows at which it is looked for
GAINS = [1.0, 2.0]
GRID = [10.0 ** (-half / 2) for half in range(2, 15)]


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


def solver(rtol: float, atol: float) -> Solver:
    """dopri5, differentiated through its steps."""
    return Solver(rtol=rtol, atol=atol, gradient="backprop")


@torch.no_grad()
def solution(flow: Flow, x: Tensor) -> Tensor:
    """log_prob in float64 at 1e-10."""
    precise = copy.deepcopy(flow).double().using(solver=solver(1e-10, 1e-10))
    return precise.log_prob(x.double())


@torch.no_grad()
def accurate(flow: Flow, x: Tensor, expected: Tensor) -> tuple[Solver, float]:
    """The solver with the fewest evaluations that is accurate, and its largest error."""
    found: list[tuple[int, Solver, float]] = []
    for scale in (1, 100):
        for rtol in GRID:
            chosen = solver(rtol, scale * rtol)
            view = flow.using(solver=chosen)
            error = float((view.log_prob(x).double() - expected).abs().max())
            if error <= ACCURACY:
                found.append((nfe(view, x), chosen, error))
                break
    _, chosen, error = min(found, key=lambda candidate: candidate[0])
    return chosen, error


@pytest.fixture(scope="module")
def peers() -> dict[Any, Any]:
    """What was prepared, by gain and whether it is timed: one search for both benchmarks."""
    return {}


@pytest.fixture(params=GAINS)
def equals(
    request: pytest.FixtureRequest, peers: dict[Any, Any], benchmark: Any, _threads: None
) -> tuple[dict[str, Flow], Tensor]:
    """Both flows at the solvers that are equally accurate, and a batch; small if not timed."""
    timed, gain = benchmark.enabled, request.param
    if (gain, timed) not in peers:
        dim, hidden, rows = (DIM, HIDDEN, ROWS) if timed else (4, 16, FEW)
        both = pair(dim, hidden, gain)
        x = torch.randn(rows, dim)
        few = x[:SEARCHED]
        expected = solution(both["flowgauge"], few)
        chosen = {name: accurate(flow, few, expected) for name, flow in both.items()}
        views = {name: flow.using(solver=chosen[name][0]) for name, flow in both.items()}
        torch.testing.assert_close(solution(both["zuko"], x[:2]), expected[:2], rtol=0, atol=1e-6)
        sizes = {
            "gain": gain,
            "dim": dim,
            "hidden": hidden,
            "rows": rows,
            "threads": torch.get_num_threads(),
        }
        tolerances = {name: [made.rtol, made.atol] for name, (made, _) in chosen.items()}
        errors = {name: error for name, (_, error) in chosen.items()}
        peers[gain, timed] = views, x, {**sizes, "tolerances": tolerances, "errors": errors}
    views, x, information = peers[gain, timed]
    benchmark.extra_info |= information
    return views, x


def bench_density(benchmark: Any, equals: tuple[dict[str, Flow], Tensor]) -> None:
    """Exact log_prob without gradient."""
    views, x = equals
    benchmark.extra_info["nfe"] = {name: nfe(flow, x) for name, flow in views.items()}
    works = {name: density(flow, x) for name, flow in views.items()}
    compare(benchmark, works, timed="flowgauge", least=3)


def bench_training_step(benchmark: Any, equals: tuple[dict[str, Flow], Tensor]) -> None:
    """Loss and gradient with Hutchinson's estimate on both sides."""
    exact, x = equals
    views = {name: flow.using(trace="hutchinson", noise=0) for name, flow in exact.items()}
    benchmark.extra_info["nfe"] = {name: nfe(flow, x) for name, flow in views.items()}
    works = {name: training_step(flow, x) for name, flow in views.items()}
    compare(benchmark, works, timed="flowgauge", least=3)
