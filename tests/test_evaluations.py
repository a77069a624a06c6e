"""Counts of evaluations, by solve and by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import flows
from continuous_fields import OF_AN_MLP, mlp_flow

Normal = Callable[..., Tensor]


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
@pytest.mark.parametrize(
    ("layers", "first_step"), [(1, "torchdiffeq"), (2, "torchdiffeq"), (2, None), (2, 0.5)]
)
def test_nfe_of_dopri5(
    gradient: str, layers: int, first_step: Any, make_flow: Any, normal: Normal
) -> None:
    """A solve takes 1 + 6 (accepted + rejected), and 1 for the heuristic; adjoints the same."""
    solver = {"rtol": 1e-6, "atol": 1e-6, "gradient": gradient, "first_step": first_step}
    start = 2 if first_step == "torchdiffeq" else 1
    flow = make_flow("cnf", 3, hidden=8, layers=layers, spread=0.5).using(solver=solver)
    with flows.count_nfe(flow) as nfe:
        loss = flow.loss(normal(8, 3))
        forward = nfe.forward
        assert forward == start * layers + 6 * (nfe.accepted + nfe.rejected)
        assert nfe.backward == 0
        accepted = nfe.accepted
        loss.backward()
    assert (nfe.forward, nfe.accepted) == (forward, accepted)
    assert len(nfe.solves) == layers
    for solve in nfe.solves:
        assert solve.forward == start + 6 * (solve.accepted + solve.rejected)
        back = solve.accepted_backward + solve.rejected_backward
        assert solve.backward == (0 if gradient == "backprop" else start + 6 * back)
        assert (back > 0) == (gradient != "backprop")


@pytest.mark.parametrize(
    ("method", "stages"),
    [("euler", 1), ("midpoint", 2), ("heun2", 2), ("heun3", 3), ("rk4", 4)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nfe_of_fixed_steps(method: str, stages: int, dtype: torch.dtype, make_flow: Any) -> None:
    """Stages times steps, for every cut of the interval: rounding adds no step and no error."""
    for layers, steps in ((1, 7), (3, 49), (5, 2)):
        solver = {"method": method, "step_size": 1 / (layers * steps)}
        flow = make_flow("cnf", 1, hidden=2, depth=1, layers=layers, dtype=dtype)
        flow = flow.using(solver=solver)
        for run in (flow.transform.forward, flow.transform.inverse):
            with flows.count_nfe(flow) as nfe:
                run(torch.ones(1, 1, dtype=dtype))
            assert nfe.forward == stages * layers * steps
            assert (nfe.accepted, nfe.rejected) == (0, 0)


def test_steps_are_at_most_the_step_size(normal: Normal) -> None:
    """A step size that does not divide the interval is made smaller; one beyond it is one step."""
    flow = mlp_flow(2)
    for step_size, steps in ((0.3, 4), (0.5, 2), (0.51, 2), (1.0, 1), (5.0, 1)):
        view = flow.using(solver={"method": "euler", "step_size": step_size})
        with flows.count_nfe(view) as nfe:
            view.log_prob(normal(3, 2))
        assert nfe.forward == steps


@pytest.mark.parametrize("trace", OF_AN_MLP)
def test_a_count_is_field_and_trace_together(trace: str, normal: Normal) -> None:
    """Whatever the trace needs, an evaluation counts once; a nested counter sees its block."""
    flow = mlp_flow(3, trace=trace, solver={"method": "euler", "step_size": 0.25})
    with flows.count_nfe(flow) as outer:
        flow.log_prob(normal(3, 3))
        with flows.count_nfe(flow) as inner:
            flow.sample(2)
    flow.log_prob(normal(3, 3))
    assert (outer.forward, inner.forward) == (8, 4)
    assert flow.transform.counters == []


def test_a_flow_without_an_ode_counts_nothing(normal: Normal) -> None:
    """Discrete flows have no evaluations."""
    flow = flows.build("realnvp", 2, hidden=4).double()
    with flows.count_nfe(flow) as nfe:
        flow.loss(normal(3, 2)).backward()
    assert nfe == type(nfe)()
