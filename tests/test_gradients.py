"""Gradients of log_prob: against differences, through the adjoint, and many times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import flows
from continuous_fields import DOPRI5, OF_AN_MLP, mlp_flow
from flows import Flow

Normal = Callable[..., Tensor]
Differences = Callable[..., None]


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
@pytest.mark.parametrize("trace", ["closed_form", "loop", "hutchinson"])
@pytest.mark.parametrize("direction", ["log_prob", "rsample"])
def test_gradients(
    gradient: str,
    trace: str,
    direction: str,
    make_flow: Any,
    normal: Normal,
    agrees_with_differences: Differences,
) -> None:
    """Of two stacked pieces, for parameters, x and context: adjoints = backprop = differences."""
    built = make_flow("cnf", 2, hidden=5, depth=1, layers=2, context_dim=2)
    flow = built.using(trace=trace, solver={**DOPRI5, "gradient": gradient}, noise=1)
    x = normal(3, 2).requires_grad_()
    context = normal(3, 2, seed=1).requires_grad_()
    weights = normal(3, 2, seed=2)

    def objective(flow: Flow = flow) -> Tensor:
        if direction == "log_prob":
            return (flow.log_prob(x, context) * weights[:, 0]).sum()
        torch.manual_seed(0)
        sample, log_prob = flow.rsample_and_log_prob(3, context)
        return (sample * weights).sum() + (log_prob * weights[:, 1]).sum()

    tensors = [*flow.named_parameters(), ("context", context)]
    tensors += [("x", x)] if direction == "log_prob" else []
    if gradient == "backprop":
        agrees_with_differences(objective, tensors, coordinates=0, step=1e-3, tolerance=3e-6)
        return
    backprop = built.using(trace=trace, solver={**DOPRI5, "gradient": "backprop"}, noise=1)
    values = [tensor for _, tensor in tensors]
    for mine, reference in zip(
        torch.autograd.grad(objective(), values),
        torch.autograd.grad(objective(backprop), values),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("method", ["rk4", "midpoint"])
@pytest.mark.parametrize("gradient", ["adjoint", "seminorm"])
def test_fixed_steps_have_an_adjoint(method: str, gradient: str, normal: Normal) -> None:
    """The adjoint of a fixed-step solve takes as many steps and is right to its order."""
    flow, x = mlp_flow(3), normal(4, 3)
    parameters = list(flow.parameters())
    reference = torch.autograd.grad(flow.loss(x), parameters)
    view = flow.using(solver={"method": method, "step_size": 0.01, "gradient": gradient})
    with flows.count_nfe(view) as nfe:
        gradients = torch.autograd.grad(view.loss(x), parameters)
    assert nfe.backward == nfe.forward
    for got, expected in zip(gradients, reference, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_a_graph_may_be_walked_many_times(normal: Normal) -> None:
    """Each backward solve has its own allowance of steps."""
    flow = mlp_flow(3, solver={"rtol": 1e-5, "atol": 1e-5, "max_steps": 20})
    x = normal(4, 3).requires_grad_()
    log_prob = flow.log_prob(x)
    gradients = [torch.autograd.grad(log_prob.sum(), x, retain_graph=True)[0] for _ in range(10)]
    torch.testing.assert_close(gradients[0], gradients[-1], atol=0, rtol=0)


@pytest.mark.parametrize("trace", OF_AN_MLP)
def test_modes_without_grad(trace: str, normal: Normal) -> None:
    """no_grad and inference_mode return what grad mode does, in both directions."""
    flow, x = mlp_flow(3, trace=trace).using(noise=1), normal(5, 3)
    reference = flow.log_prob(x).detach()
    torch.manual_seed(1)
    sample, log_prob = (part.detach() for part in flow.rsample_and_log_prob(5))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(flow.log_prob(x), reference, atol=1e-12, rtol=0)
            torch.manual_seed(1)
            for got, expected in zip(flow.rsample_and_log_prob(5), (sample, log_prob), strict=True):
                assert not got.requires_grad
                torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)
