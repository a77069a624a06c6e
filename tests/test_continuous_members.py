"""Members among the continuous flows: their fields by formula, penalties, flow matching."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nflows.transforms import LULinear
from torch import Tensor

import flows
from continuous_fields import moved
from flows import Flow
from flows.bijection import parts
from flows.continuous.flow_matching import assignment
from flows.continuous.hollow import HollowField
from flows.continuous.ot_flow import PotentialField
from flows.continuous.planar_cnf import PlanarField
from flows.continuous.point import Point
from flows.continuous.regularizers import REGULARIZERS, collect
from flows.continuous.trace import Trace
from flows.preprocessing import Whitening
from variants import variants

Make = Callable[..., Flow]
Normal = Callable[..., Tensor]

DIMS = (1, 2, 6)
T = torch.tensor(0.3, dtype=torch.float64)
ODES = [name for name in flows.own() if "solver" in flows.members[name].defaults]
WEIGHTS = {n: [k for k in flows.members[n].defaults if k in REGULARIZERS] for n in ODES}
PENALISED = {name: dict.fromkeys(weights, 0.25) for name, weights in WEIGHTS.items() if weights}
FIELDS = {(name, str(o)): o for name in ODES for o in ({}, *variants(name))}

penalised = pytest.mark.parametrize("name", PENALISED)
every_dim = pytest.mark.parametrize("dim", DIMS)


def _jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of every row by itself: (N, D, ...)."""
    rows = [torch.func.jacrev(lambda row: function(row[None])[0])(row) for row in x]
    return torch.stack(rows).detach()


@every_dim
@pytest.mark.parametrize("case", FIELDS, ids=" ".join)
def test_the_trace_is_that_of_the_jacobian(case: tuple[str, str], dim: int, normal: Normal) -> None:
    """To rounding, and beside the very value that the field has without it."""
    torch.manual_seed(0)
    options = {**flows.members[case[0]].applicable({"hidden": 7}), **FIELDS[case]}
    last: Any = parts(flows.build(case[0], dim, **options).transform)[-1]
    field, x, width = moved(last.field), normal(5, dim), options.get("context_dim", 0)
    context = normal(1, width, seed=5) if width else None
    jacobian = _jacobian(lambda row: field(T, row, context), x)
    context = None if context is None else context.expand(5, -1)
    dx, trace = Trace("exact").rate(Point(field, T, x, context), None)
    torch.testing.assert_close(dx, field(T, x, context), atol=1e-15, rtol=1e-15)
    size = 1 + jacobian.flatten(1).norm(dim=1)
    error = (trace - jacobian.diagonal(dim1=1, dim2=2).sum(1)).abs()
    assert bool((error <= 1e-12 * size).all())


@every_dim
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_potential_field_descends_its_potential(dim: int, depth: int, normal: Normal) -> None:
    """f = -∇ₓΦ and ∂Φ/∂t by autograd of the paper's formula; the Hessian is symmetric."""
    field, x = moved(PotentialField(dim, hidden=7, depth=depth)), normal(5, dim)

    def potential(s: Tensor) -> Tensor:
        u, h = (field.layers[0](s), 1 / max(1, depth - 1))
        u = torch.log(torch.exp(u) + torch.exp(-u))
        for layer in field.layers[1:]:
            a = layer(u)
            u = u + h * torch.log(torch.exp(a) + torch.exp(-a))
        quadratic = ((s @ field.A.T @ field.A) * s).sum(1) / 2
        total: Tensor = u @ field.w + quadratic + s @ field.b
        return total

    s = torch.cat([x, T.expand(5, 1)], 1).requires_grad_()
    (gradient,) = torch.autograd.grad(potential(s).sum(), s)
    torch.testing.assert_close(field(T, x), -gradient[:, :-1], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(field.time_derivative(T, x), gradient[:, -1], atol=1e-12, rtol=0)
    hessian = _jacobian(lambda row: field(T, row), x)
    torch.testing.assert_close(hessian, hessian.mT, atol=1e-12, rtol=0)
    assert field.A.shape == (min(10, dim + 1), dim + 1)


@every_dim
def test_a_planar_field_is_its_sum(dim: int, normal: Normal) -> None:
    """Σ_h u_h σ(a_h t + c_h) tanh(w_hᵀx + b_h + V_h context), term by term."""
    field = moved(PlanarField(dim, hidden=4, context_dim=2))
    x, context, total = normal(5, dim), normal(5, 2, seed=1), torch.zeros(5, dim).double()
    for h in range(4):
        wave = torch.tanh(
            x @ field.inner.weight[h] + field.inner.bias[h] + context @ field.context.weight[h]
        )
        gate = 1 / (1 + torch.exp(-field.gate.weight[h, 0] * T - field.gate.bias[h]))
        total = total + gate * wave[:, None] * field.outer.weight[:, h]
    torch.testing.assert_close(field(T, x, context), total, atol=1e-13, rtol=1e-13)


@every_dim
def test_a_hollow_field_is_hollow(dim: int, normal: Normal) -> None:
    """∂c_i/∂x_i is zero and no other ∂c_i/∂x_j is; with c fixed the Jacobian is diagonal."""
    torch.manual_seed(0)
    field, x = moved(HollowField(dim, hidden=10, depth=2, features=3)), normal(4, dim)
    of_c = _jacobian(lambda row: field.conditioner(T, row), x)  # (N, D, 2 F, D)
    reaches = of_c.abs().amax((0, 2)) > 0
    assert bool((reaches == ~torch.eye(dim, dtype=torch.bool)).all())
    for row in x:
        c = field.conditioner(T, row[None])
        fixed = _jacobian(lambda r, c=c: field.transformer(T, r, c), row[None])[0]
        assert bool((fixed == torch.diag(fixed.diagonal())).all())
    at_another_time = field.conditioner(T + 0.1, x)
    assert not torch.allclose(at_another_time, field.conditioner(T, x))


# ---- penalties --------------------------------------------------------------------------------


@penalised
def test_penalties_do_not_steer(name: str, make_flow: Make, normal: Normal) -> None:
    """With and without them log_prob is the same to the bit, and so is the number of evaluations.

    The loss is the mean of -log_prob and the penalties together.
    """
    solver = {"rtol": 1e-4, "atol": 1e-4}
    flow = make_flow(name, 3, hidden=8, **PENALISED[name], solver=solver).using(noise=1)
    x = normal(20, 3)
    with flows.count_nfe(flow) as plain, torch.no_grad():
        log_prob = flow.log_prob(x)
    with flows.count_nfe(flow) as beside, torch.no_grad(), collect(flow) as penalties:
        again = flow.log_prob(x)
    assert torch.equal(log_prob, again)
    assert plain.forward == beside.forward > 0
    (penalty,) = penalties
    assert penalty.shape == (20,)
    assert bool((penalty > 0).all())
    expected = (penalty - log_prob).mean()
    torch.testing.assert_close(flow.loss(x).detach(), expected, atol=1e-12, rtol=1e-12)


@penalised
def test_penalties_are_integrals(name: str, make_flow: Make, normal: Normal) -> None:
    """Simpson's rule over the path by 100 steps of RK4, integrands from the Jacobian in full."""
    weights, steps = PENALISED[name], 100
    solver = {"rtol": 1e-10, "atol": 1e-10}
    flow = make_flow(name, 2, hidden=5, **weights, solver=solver).using(noise=1)
    (cnf,) = (m for m in flow.modules() if hasattr(m, "penalties"))
    field, x = cnf.field, normal(4, 2)
    with collect(flow) as penalties, torch.no_grad():
        flow.log_prob(x)
    cnf.generator.manual_seed(1)
    probes = cnf.trace.draw(field, x, cnf.generator)

    def integrand(t: Tensor, x: Tensor) -> Tensor:
        dx = field(t, x).detach()
        value = weights["kinetic"] * dx.square().sum(1) / 2
        if "jacobian" in weights:
            (probe,) = probes
            product = torch.einsum("ni,nij->nj", probe, _jacobian(lambda r: field(t, r), x))
            value = value + weights["jacobian"] * product.square().sum(1)
        if "hjb" in weights:
            rate = field.time_derivative(t, x).detach() - dx.square().sum(1) / 2
            value = value + weights["hjb"] * rate.abs()
        return value

    total, h = torch.zeros(4, dtype=torch.float64), torch.tensor(1 / steps, dtype=torch.float64)
    for k in range(steps + 1):
        t = h * k
        total += integrand(t, x) * (1 if k in (0, steps) else 4 if k % 2 else 2) * h / 3
        with torch.no_grad():
            a = field(t, x)
            b = field(t + h / 2, x + h / 2 * a)
            c = field(t + h / 2, x + h / 2 * b)
            d = field(t + h, x + h * c)
            x = x + h / 6 * (a + 2 * b + 2 * c + d)
    tolerance = 1e-3 if "hjb" in weights else 1e-6  # |·| has kinks, which no rule resolves
    torch.testing.assert_close(penalties[0], total, atol=0, rtol=tolerance)


@penalised
@pytest.mark.parametrize(("gradient", "step"), [("adjoint", 0.05), ("backprop", 0.25)])
def test_the_gradient_of_the_loss(
    name: str,
    gradient: str,
    step: float,
    make_flow: Make,
    normal: Normal,
    agrees_with_differences: Any,
) -> None:
    """Penalties and all, it is that of differences for every parameter."""
    solver = {"method": "rk4", "step_size": step, "gradient": gradient}
    flow = make_flow(name, 2, hidden=4, depth=1, **PENALISED[name], solver=solver).using(noise=1)
    x = normal(4, 2)
    agrees_with_differences(lambda: flow.loss(x), flow.named_parameters(), tolerance=1e-5)


Draw = Callable[..., Tensor]
COUPLINGS = ("independent", "optimal_transport")


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("width", [0, 2])
def test_the_loss_is_its_formula(coupling: str, width: int, normal: Draw) -> None:
    """‖v(t, x_t) - (x₁ - x₀)‖², row by row, with the context of the row of data."""
    options = {"hidden": 8, "context_dim": width, "coupling": coupling, "time": "concatsquash"}
    flow = flows.build("flow_matching", 3, **options).double()
    x, context = normal(20, 3, seed=1), normal(20, width, seed=2) if width else None
    torch.manual_seed(5)
    loss = flow.loss(x, context)
    torch.manual_seed(5)
    noise, t = torch.randn(20, 3, dtype=torch.float64), torch.rand(20, dtype=torch.float64)
    noise = noise[assignment(x, noise)] if coupling == "optimal_transport" else noise
    total = 0.0
    for i in range(20):
        at = (1 - t[i]) * noise[i] + t[i] * x[i]
        inputs = (t[i], at[None]) if context is None else (t[i], at[None], context[i : i + 1])
        total += (flow.transform.field(*inputs)[0] - (x[i] - noise[i])).square().sum().item()
    assert loss.item() == pytest.approx(total / 20, rel=1e-12)
    loss.backward()
    assert all(bool(p.grad.abs().max() > 0) for p in flow.parameters())


def test_the_assignment_is_optimal(normal: Draw) -> None:
    """A permutation whose cost is the least of all, by trying them."""
    for seed in range(20):
        x, noise = 100 + 2 * normal(5, 3, seed=seed), normal(5, 3, seed=100 + seed)
        cost = torch.cdist(x, noise, compute_mode="donot_use_mm_for_euclid_dist").square()
        rows = torch.arange(5)
        least = min(cost[rows, list(p)].sum().item() for p in itertools.permutations(range(5)))
        order = assignment(x, noise)
        assert sorted(order.tolist()) == list(range(5))
        assert cost[rows, order].sum().item() == pytest.approx(least, rel=1e-12)
        assert least <= cost.trace().item()


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_loss_is_one_of_whitened_data(coupling: str, normal: Draw) -> None:
    """What is prepended, twice here, is run before the regression; the density counts it."""
    x = 5 + normal(200, 3, seed=1) @ normal(3, 3, seed=2)
    flow = flows.build("flow_matching", 3, hidden=8, coupling=coupling).double()
    first = Whitening.fit(x)
    second = Whitening(torch.ones(3).double(), 2 * torch.eye(3).double())
    white = second(first(x)[0])[0]
    torch.manual_seed(3)
    expected = flow.loss(white)
    whitened = flows.build("flow_matching", 3, hidden=8, coupling=coupling).double()
    whitened.load_state_dict(flow.state_dict())
    whitened.prepend(second).prepend(first)
    torch.manual_seed(3)
    assert whitened.loss(x).item() == pytest.approx(expected.item(), rel=1e-12)
    moved = flow.log_prob(white) + first(x)[1] + second(white)[1]
    torch.testing.assert_close(whitened.log_prob(x), moved, atol=1e-4, rtol=0)


def test_what_is_prepended_cannot_be_trained() -> None:
    """The regression would rather shrink the data."""
    flow = flows.build("flow_matching", 2).prepend(LULinear(2))
    with pytest.raises(ValueError, match=r"LULinear.*requires_grad_\(False\)"):
        flow.loss(torch.randn(5, 2))
    flow.transform.requires_grad_(False)
    assert bool(torch.isfinite(flow.loss(torch.randn(5, 2))))


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_loss_solves_no_ode(coupling: str) -> None:
    """Neither forward nor backward; log_prob does."""
    flow = flows.build("flow_matching", 2, coupling=coupling)
    x = torch.randn(10, 2)
    with flows.count_nfe(flow) as nfe:
        flow.loss(x).backward()
    assert (nfe.forward, nfe.backward, nfe.solves) == (0, 0, [])
    with flows.count_nfe(flow) as nfe:
        flow.log_prob(x)
    assert nfe.forward > 0
