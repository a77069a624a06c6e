"""The noise of estimates: values once a solve, reproducible, and unbiased."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import flows
from continuous_fields import DOPRI5, mlp_flow
from flows.continuous import Solver
from flows.continuous.trace import Trace

Normal = Callable[..., Tensor]


def test_fixed_noise_is_reproducible(normal: Normal) -> None:
    """``using(noise=7)`` gives equal results at each call and from each fresh view."""
    flow, x = mlp_flow(3, trace="hutchinson"), normal(6, 3)
    view = flow.using(noise=7)
    first = view.log_prob(x)
    for again in (view, flow.using(noise=7), flow.using(noise=7).train(False)):
        torch.testing.assert_close(again.log_prob(x), first, atol=0, rtol=0)
    assert not torch.allclose(flow.using(noise=8).log_prob(x), first)
    assert not torch.allclose(flow.log_prob(x), flow.log_prob(x))  # the original draws on


def test_a_view_leaves_the_original_alone(normal: Normal) -> None:
    """Trace, solver, noise, counters and the stream of random numbers stay what they were."""
    flow, x = mlp_flow(3, trace="hutchinson"), normal(6, 3)
    state = flow.transform.generator.get_state()
    view = flow.using(trace="exact", solver={"method": "euler", "step_size": 0.5}, noise=1)
    with flows.count_nfe(flow) as nfe:
        view.log_prob(x)
    assert nfe.forward == 0
    assert (flow.transform.trace, flow.transform.noise) == (Trace("hutchinson"), None)
    assert flow.transform.solver == Solver(**DOPRI5)
    assert torch.equal(flow.transform.generator.get_state(), state)
    assert (view.transform.trace, view.transform.noise) == (Trace("exact"), 1)


@pytest.mark.parametrize("layers", [1, 2])
def test_hutchinson_is_unbiased(layers: int, make_flow: Any, normal: Normal) -> None:
    """The mean of log_prob over probes and over seeds is the exact log_prob, within its error."""
    steps = {"method": "rk4", "step_size": 0.25}
    flow = make_flow("ffjord", 3, hidden=8, layers=layers).using(solver=steps)
    x = normal(1, 3)
    with torch.no_grad():
        exact = flow.using(trace="exact").log_prob(x)
        rows = flow.using(noise=3).log_prob(x.expand(4000, -1))
        some = x.expand(20, -1)
        seeds = torch.cat([flow.using(noise=seed).log_prob(some) for seed in range(50)])
    for estimates in (rows, seeds):
        error = estimates.std() / math.sqrt(len(estimates))
        assert error > 0
        assert abs(estimates.mean() - exact) < 4 * error


def test_two_solves_before_a_backward_keep_their_noise(normal: Normal) -> None:
    """An adjoint solves with the probes of its own forward pass."""
    flow, x, y = mlp_flow(3, trace="hutchinson"), normal(5, 3), normal(5, 3, seed=1)
    parameters = list(flow.parameters())
    state = flow.transform.generator.get_state()
    first, second = flow.log_prob(x).sum(), flow.log_prob(y).sum()
    together = torch.autograd.grad(first + second, parameters)
    flow.transform.generator.set_state(state)
    apart = [torch.autograd.grad(flow.log_prob(data).sum(), parameters) for data in (x, y)]
    backprop = flow.using(solver={**DOPRI5, "gradient": "backprop"})
    backprop.transform.generator.set_state(state)
    reference = torch.autograd.grad(
        backprop.log_prob(x).sum() + backprop.log_prob(y).sum(), parameters
    )
    for value, one, two, expected in zip(together, *apart, reference, strict=True):
        torch.testing.assert_close(value, one + two, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)


def test_probes_follow_the_seed_of_construction(normal: Normal) -> None:
    """torch's seed at construction decides the probes, its later draws do not."""
    x, values = normal(4, 3), []
    for disturbance in (0, 10):
        flow = mlp_flow(3, trace="hutchinson")
        torch.rand(disturbance)
        values.append(flow.log_prob(x))
    torch.testing.assert_close(*values, atol=0, rtol=0)
