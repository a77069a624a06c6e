"""Continuous flows against linear ODEs, scipy, differences, and their own identities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from torch import Tensor

import flows
from continuous_fields import DOPRI5, Linear, Rowwise, mlp_field, mlp_flow
from flows import Flow
from flows.continuous import CNF
from flows.continuous.solve import ADAPTIVE, FIXED

Normal = Callable[..., Tensor]
Solve = dict[str, Any]

# ---- against what is known otherwise ---------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0), (0.5, 2.0)])
@pytest.mark.parametrize("trace", ["exact", "loop", "hutchinson"])
def test_linear_field(dim: int, t0: float, t1: float, trace: str, normal: Normal) -> None:
    """f = A x: z = exp((t1 - t0) A) x and ladj = (t1 - t0) tr A."""
    matrix = 0.7 * normal(dim, dim, seed=3)
    if trace == "hutchinson":  # exact for a diagonal matrix, whatever the probe
        matrix = torch.diag(matrix.diagonal())
    cnf = CNF(Linear(matrix), trace=trace, t0=t0, t1=t1, solver={"rtol": 1e-10, "atol": 1e-10})
    x = normal(6, dim)
    for (y, ladj), span in ((cnf(x), t1 - t0), (cnf.inverse(x), t0 - t1)):
        reference = x @ torch.from_numpy(expm(span * matrix.numpy())).T
        torch.testing.assert_close(y.detach(), reference, atol=1e-8, rtol=1e-8)
        expected = (span * matrix.trace()).expand(6)
        torch.testing.assert_close(ladj.detach(), expected, atol=1e-9, rtol=1e-9)


def test_against_scipy(normal: Normal) -> None:
    """log_prob is that of an augmented ODE solved by DOP853 with Jacobians formed in numpy."""
    flow = mlp_flow(3, depth=2, solver={"rtol": 1e-11, "atol": 1e-11})
    layers = [
        tuple(p.detach().numpy() for p in (layer.weight, layer.bias, layer.shift))
        for layer in flow.transform.field.layers
    ]

    def augmented(t: float, y: np.ndarray) -> np.ndarray:
        value, jacobian = y[:3], np.eye(3)
        for index, (weight, bias, shift) in enumerate(layers):
            value, jacobian = weight @ value + bias + shift * t, weight @ jacobian
            if index < len(layers) - 1:
                value = np.tanh(value)
                jacobian = (1 - value**2)[:, None] * jacobian
        return np.append(value, np.trace(jacobian))

    x = normal(5, 3)
    expected = []
    for row in x.numpy():
        solved = solve_ivp(augmented, (0, 1), np.append(row, 0), "DOP853", rtol=1e-11, atol=1e-12)
        z, ladj = solved.y[:3, -1], solved.y[3, -1]
        expected.append(-0.5 * z @ z - 1.5 * math.log(2 * math.pi) + ladj)
    np.testing.assert_allclose(flow.log_prob(x).detach(), expected, atol=1e-9, rtol=0)


def test_velocity_fields_of_flow_matching(normal: Normal) -> None:
    """A field trained with noise at 0 and data at 1 is a Flow with t0=1 and t1=0."""
    rate = torch.tensor([0.5, -1.0], dtype=torch.float64)
    flow = Flow(CNF(Linear(torch.diag(rate)), t0=1.0, t1=0.0, solver=DOPRI5))
    x = normal(6, 2)
    assert flow.dim == 2
    scaled = torch.distributions.Normal(torch.zeros(2).double(), rate.exp())  # noise times e^rate
    torch.testing.assert_close(
        flow.log_prob(x).detach(), scaled.log_prob(x).sum(1), atol=1e-7, rtol=0
    )
    torch.testing.assert_close(flow.sample(4000).std(0), rate.exp(), atol=0, rtol=0.06)

    velocity = mlp_field(2)
    z = Flow(CNF(velocity, t0=1.0, t1=0.0, solver=DOPRI5)).to_noise(x)
    data = Flow(CNF(velocity, solver={"method": "rk4", "step_size": 0.01})).to_noise(z)  # 0 to 1
    torch.testing.assert_close(data, x, atol=1e-7, rtol=0)


# ---- accuracy --------------------------------------------------------------------------------

ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}
ORDERS |= {"explicit_adams": 4, "implicit_adams": 5, "fixed_adams": 5}  # all start by rk4


@pytest.mark.parametrize("method", FIXED)
def test_order_of_convergence(method: str, normal: Normal) -> None:
    """log_prob converges with the order of the method: the slope of error over step."""
    flow, x = mlp_flow(3, depth=2, spread=0.1), normal(16, 3)
    with torch.no_grad():
        exact = flow.using(solver={"rtol": 1e-12, "atol": 1e-12}).log_prob(x)
        steps = np.array([1 / 8, 1 / 16, 1 / 32])
        errors = [
            (flow.using(solver={"method": method, "step_size": step}).log_prob(x) - exact).norm()
            for step in steps
        ]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(ORDERS[method], abs=0.25)


@pytest.mark.parametrize("method", ADAPTIVE + FIXED)
def test_every_method_solves(method: str, normal: Normal) -> None:
    """Each name of the table is one of torchdiffeq's, and comes near the solution."""
    flow, x = mlp_flow(2), normal(4, 2)
    solver: Solve = {"method": method}
    solver |= {"step_size": 0.02} if method in FIXED else {"rtol": 1e-4, "atol": 1e-4}
    view = flow.using(solver=solver)
    log_prob = view.log_prob(x)
    torch.testing.assert_close(log_prob, flow.log_prob(x), atol=0.05, rtol=0)
    log_prob.sum().backward()


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
@pytest.mark.parametrize("error_norm", ["all", "state", "sample"])
def test_error_norms_run(error_norm: str, gradient: str, normal: Normal) -> None:
    """Each choice, with a context and a gradient, is near the solution."""
    flow = mlp_flow(3, context_dim=2)
    x, context = normal(6, 3), normal(6, 2, seed=1)
    parameters = list(flow.parameters())
    solver = {"rtol": 1e-7, "atol": 1e-7, "gradient": gradient, "error_norm": error_norm}
    results = [f.log_prob(x, context) for f in (flow.using(solver=solver), flow)]
    torch.testing.assert_close(*results, atol=1e-4, rtol=0)
    gradients = [torch.autograd.grad(result.sum(), parameters) for result in results]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4, 1e-5])
def test_the_sample_norm_serves_the_worst_row(tolerance: float, normal: Normal) -> None:
    """Among many easy rows a hard one is solved at least as well as by the mean of all."""
    field = Rowwise(lambda x: torch.sin(6 * x) * torch.where(x.abs() > 3, 3.0, 0.1))
    x = torch.cat([0.5 * normal(200, 2), torch.tensor([[5.0, -4.2]], dtype=torch.float64)])
    flow = Flow(CNF(field, solver={"rtol": 1e-11, "atol": 1e-11}))
    with torch.no_grad():
        exact, errors = flow.log_prob(x), {}
        for norm in ("all", "state", "sample"):
            solver = {"rtol": tolerance, "atol": tolerance, "error_norm": norm}
            errors[norm] = (flow.using(solver=solver).log_prob(x) - exact).abs().max().item()
    assert errors["sample"] <= min(errors["all"], errors["state"])


def test_tolerance_controls_the_error(normal: Normal) -> None:
    """A tighter tolerance costs more evaluations and brings log_prob nearer."""
    flow, x = mlp_flow(3), normal(16, 3)
    errors, counts = [], []
    with torch.no_grad():
        exact = flow.using(solver={"rtol": 1e-12, "atol": 1e-12}).log_prob(x)
        for tolerance in (1e-3, 1e-5, 1e-7, 1e-9):
            view = flow.using(solver={"rtol": tolerance, "atol": tolerance})
            with flows.count_nfe(view) as nfe:
                errors.append((view.log_prob(x) - exact).abs().max().item())
            counts.append(nfe.forward)
    assert counts == sorted(counts)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-7


def test_pieces_cover_the_interval(make_flow: Any, normal: Normal) -> None:
    """L pieces lie end to end over [0, 1]: with one network in each they are the whole."""
    flow = make_flow("cnf", 3, hidden=8, layers=3).using(solver=DOPRI5)
    cnfs = [module for module in flow.modules() if isinstance(module, CNF)]
    assert [cnf.t0 for cnf in cnfs] == [0.0, *(cnf.t1 for cnf in cnfs[:-1])]
    assert cnfs[-1].t1 == 1.0
    for cnf in cnfs[1:]:
        cnf.field = cnfs[0].field
    single = Flow(CNF(cnfs[0].field, solver=DOPRI5))
    x = normal(4, 3)
    torch.testing.assert_close(flow.log_prob(x), single.log_prob(x), atol=1e-7, rtol=0)


def test_empty_batches(normal: Normal) -> None:
    """No rows: no steps, in both directions, and a graph that reaches every parameter."""
    for width in (0, 2):
        flow = mlp_flow(3, context_dim=width)
        context = normal(0, width) if width else None
        with flows.count_nfe(flow) as nfe:
            log_prob = flow.log_prob(normal(0, 3), context)
            assert flow.sample(0, context).shape == (0, 3)
        assert (log_prob.shape, nfe.accepted) == ((0,), 0)
        log_prob.sum().backward()
        assert all(p.grad is not None and not p.grad.any() for p in flow.parameters())


@pytest.mark.parametrize("value", ["no", 0, 1, None])
def test_whether_an_end_time_is_trained_is_said_by_true_or_false_alone(value):
    with pytest.raises(ValueError, match="train_end_time"):
        flows.build("cnf", 2, train_end_time=value)
