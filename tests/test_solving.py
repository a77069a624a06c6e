"""Solves by every method: where they end, what they evaluate, equal bits, scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flows
from continuous_fields import Waves
from flows import Flow
from flows.continuous import CNF, MLPField, SolveError
from flows.continuous.by_torchdiffeq import FINAL
from flows.continuous.ffjord import TABLE_4
from flows.continuous.solve import ADAPTIVE, FIXED, SCIPY, Solver
from flows.counting import Solve

Normal = Callable[..., Tensor]


def test_published_nets() -> None:
    """The nets of FFJORD's Table 4 have the parameters that their sizes give."""
    counts = {"POWER": 43_325, "GAS": 278_565, "HEPMASS": 546_850}
    counts |= {"MINIBOONE": 820_613, "BSDS300": 6_698_666}
    for name, expected in counts.items():
        flow = flows.build("ffjord", **TABLE_4[name])
        assert sum(p.numel() for p in flow.parameters()) == expected
    assert TABLE_4.keys() == counts.keys()


@pytest.mark.parametrize(("method", "share"), [("dopri5", 0.1), ("dopri8", 1e-3), ("bosh3", 1.0)])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_the_last_step_lands(method: str, share: float, direction: str, normal: Normal) -> None:
    """Where steps are long the error is a share of the tolerance.

    Interpolated within a step beyond the end it would be several times the tolerance, or 180.
    """
    torch.manual_seed(0)
    field = MLPField(3, hidden=16).double()
    x = normal(64, 3)
    with torch.no_grad():
        run = {t: CNF(field, solver={"method": method, "rtol": t, "atol": t}) for t in (1e-3, 1e-5)}
        exact = getattr(CNF(field, solver={"rtol": 1e-11, "atol": 1e-11}), direction)(x)
        for tolerance, cnf in run.items():
            for value, true in zip(getattr(cnf, direction)(x), exact, strict=True):
                assert (value - true).abs().max() < share * tolerance


def test_whose_last_evaluation_is_at_the_solution() -> None:
    """By their tableaus: the weights of the solution are those of the last stage."""
    from torchdiffeq._impl.odeint import SOLVERS

    def last(tableau: Any) -> bool:
        closing = len(tableau.beta[-1]) == len(tableau.c_sol) - 1 and tableau.alpha[-1] == 1
        equal = closing and torch.equal(tableau.c_sol[:-1], tableau.beta[-1])
        return bool(equal and tableau.c_sol[-1] == 0)

    assert {name for name in ADAPTIVE if last(SOLVERS[name].tableau)} == set(FINAL)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_a_stiff_neighbour_costs_no_accuracy(tolerance: float, normal: Normal) -> None:
    """Under the per-sample norm the others' errors are no larger than without the stiff one."""

    class Field(nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            rate = torch.where(x[:, :1].abs() > 10, 60.0, 1.0)
            return -rate * torch.sin(x / rate.sqrt()) - 0.5 * torch.cos(3 * x + t)

    x = 0.7 * normal(40, 2)
    stiff = torch.cat([x, torch.full((1, 2), 25.0, dtype=torch.float64)])
    solver = {"rtol": tolerance, "atol": tolerance, "error_norm": "sample"}
    flow = Flow(CNF(Field(), solver=solver), 2)
    with torch.no_grad():
        exact = flow.using(solver={"rtol": 1e-12, "atol": 1e-12}).log_prob(x)
        with flows.count_nfe(flow) as alone:
            without = (flow.log_prob(x) - exact).abs().max()
        with flows.count_nfe(flow) as together:
            beside = (flow.log_prob(stiff)[:40] - exact).abs().max()
    assert together.forward > alone.forward  # it is stiff
    assert beside <= without


@pytest.mark.parametrize("trace", ["hutchinson", {"estimator": "hutchinson", "noise": "gaussian"}])
def test_the_same_seed_gives_the_same_bits(trace: Any, normal: Normal) -> None:
    """Construction from one seed: equal log_prob, samples and gradients, call after call."""
    x, results = normal(6, 3, dtype=torch.float32), []
    for _ in range(2):
        torch.manual_seed(11)
        flow = flows.build("ffjord", 3, hidden=8, trace=trace)
        calls = [flow.log_prob(x), flow.log_prob(x), flow.sample(4)]
        gradients = torch.autograd.grad(flow.loss(x), list(flow.parameters()))
        results.append([*calls, *gradients])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert not torch.equal(results[0][0], results[0][1])  # each solve draws anew


def test_scipy_solves_and_differentiates(normal: Normal) -> None:
    """LSODA behind the same interface: value, gradient, counts, and what it cannot do."""
    field, x = Waves(3), normal(4, 3)
    flow = Flow(CNF(field, solver={"method": "scipy_solver", "rtol": 1e-9, "atol": 1e-9}))
    reference = flow.using(solver={"rtol": 1e-10, "atol": 1e-10})
    with flows.count_nfe(flow) as nfe:
        gradients = [
            torch.autograd.grad(f.loss(x), list(field.parameters())) for f in (flow, reference)
        ]
    assert min(nfe.forward, nfe.backward) > 0
    assert nfe.solves == [Solve(nfe.forward, nfe.backward)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
    assert flow.sample(3).shape == (3, 3)
    with pytest.raises(SolveError, match=r" 9 .*t="):
        flow.using(solver={"method": "scipy_solver", "max_steps": 9}).log_prob(x)
    for fields in ({"gradient": "backprop"}, {"error_norm": "sample"}):
        with pytest.raises(ValueError, match=r"gradient='adjoint'.*error_norm='all'"):
            Solver(method="scipy_solver", **fields)


def test_methods_are_torchdiffeqs() -> None:
    """Every method that the library has, and none that it has not."""
    from torchdiffeq._impl.odeint import SOLVERS

    assert {*ADAPTIVE, *FIXED, *SCIPY} == set(SOLVERS)


def test_times_that_cannot_be() -> None:
    """Equal times at construction, and times that have become equal or infinite since."""
    x = torch.zeros(2, 2, dtype=torch.float64)
    t1 = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    flow = Flow(CNF(Waves(2), t1=t1))
    for value in (0.0, float("nan")):
        with torch.no_grad():
            t1.fill_(value)
        with pytest.raises(SolveError, match=r"times.* 0"):
            flow.log_prob(x)
