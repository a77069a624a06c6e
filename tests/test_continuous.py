"""Continuous flows: known ODEs, noise and threads, fields by formula, penalties, flow matching."""

import itertools
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torchdiffeq
from nflows.transforms import LULinear
from scipy.linalg import expm
from torch import Tensor, nn

import flows
from continuous_fields import DOPRI5, Rowwise, Waves, mlp_flow, moved
from flows import Flow, threads
from flows.conformance.densities import jacobians
from flows.continuous import CNF, MLPField, SolveError, Solver
from flows.continuous.flow_matching import assignment
from flows.continuous.ot_flow import PotentialField
from flows.continuous.planar_cnf import PlanarField
from flows.continuous.regularizers import REGULARIZERS, collect
from flows.continuous.solve import FIXED
from flows.counting import Solve
from flows.preprocessing import Whitening

ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}
ORDERS |= {"explicit_adams": 4, "implicit_adams": 5, "fixed_adams": 5}  # all start by rk4
T = torch.tensor(0.3, dtype=torch.float64)
WEIGHTS = {n: [k for k in flows.members[n].defaults if k in REGULARIZERS] for n in flows.own()}
PENALISED = {name: dict.fromkeys(weights, 0.25) for name, weights in WEIGHTS.items() if weights}
penalised = pytest.mark.parametrize("name", PENALISED)
every_dim = pytest.mark.parametrize("dim", [1, 2, 6])
COUPLINGS = ("independent", "optimal_transport")


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0), (0.5, 2.0)])
@pytest.mark.parametrize("trace", ["exact", "loop", "hutchinson"])
def test_linear_field(dim, t0, t1, trace, normal):
    """f = A x: z = exp((t1 - t0) A) x and ladj = (t1 - t0) tr A."""
    matrix = 0.7 * normal(dim, dim, seed=3)
    if trace == "hutchinson":  # exact for a diagonal matrix, whatever the probe
        matrix = torch.diag(matrix.diagonal())
    field, tight = Rowwise(lambda x: x @ matrix.T, dim), {"rtol": 1e-10, "atol": 1e-10}
    cnf = CNF(field, trace=trace, t0=t0, t1=t1, solver=tight)
    x = normal(6, dim)
    for (y, ladj), span in ((cnf(x), t1 - t0), (cnf.inverse(x), t0 - t1)):
        reference = x @ torch.from_numpy(expm(span * matrix.numpy())).T
        torch.testing.assert_close(y.detach(), reference, atol=1e-8, rtol=1e-8)
        expected = (span * matrix.trace()).expand(6)
        torch.testing.assert_close(ladj.detach(), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("method", FIXED)
def test_order_of_convergence(method, normal):
    flow, x = mlp_flow(3, depth=2, spread=0.1), normal(16, 3)
    with torch.no_grad():
        exact = flow.using(solver={"rtol": 1e-12, "atol": 1e-12}).log_prob(x)
        steps = np.array([1 / 8, 1 / 16, 1 / 32])
        views = [flow.using(solver={"method": method, "step_size": step}) for step in steps]
        errors = [(view.log_prob(x) - exact).norm() for view in views]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(ORDERS[method], abs=0.25)
    flow.using(solver={"method": method, "step_size": 0.25}).loss(x).backward()


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4, 1e-5])
def test_the_sample_norm_serves_the_worst_row(tolerance, normal):
    field = Rowwise(lambda x: torch.sin(6 * x) * torch.where(x.abs() > 3, 3.0, 0.1))
    x = torch.cat([0.5 * normal(200, 2), torch.tensor([[5.0, -4.2]], dtype=torch.float64)])
    flow = Flow(CNF(field, solver={"rtol": 1e-11, "atol": 1e-11}))
    with torch.no_grad():
        exact, errors = flow.log_prob(x), {}
        for norm in ("all", "state", "sample"):
            solver = {"rtol": tolerance, "atol": tolerance, "error_norm": norm}
            errors[norm] = (flow.using(solver=solver).log_prob(x) - exact).abs().max().item()
    assert errors["sample"] <= min(errors["all"], errors["state"])


def test_pieces_cover_the_interval(make_flow, normal):
    flow = make_flow("cnf", 3, hidden=8, layers=3).using(solver=DOPRI5)
    cnfs = [module for module in flow.modules() if isinstance(module, CNF)]
    assert [cnf.t0 for cnf in cnfs] == [0.0, *(cnf.t1 for cnf in cnfs[:-1])]
    assert cnfs[-1].t1 == 1.0
    for cnf in cnfs[1:]:
        cnf.field = cnfs[0].field
    single = Flow(CNF(cnfs[0].field, solver=DOPRI5))
    x = normal(4, 3)
    torch.testing.assert_close(flow.log_prob(x), single.log_prob(x), atol=1e-7, rtol=0)


@pytest.mark.parametrize(("method", "share"), [("dopri5", 0.1), ("dopri8", 1e-3), ("bosh3", 1.0)])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_the_last_step_lands(method, share, direction, normal):
    """Where steps are long the error is a share of the tolerance.

    Interpolated within a step beyond the end it would be several times the tolerance, or 180.
    """
    field = MLPField(3, hidden=16).double()
    x = normal(64, 3)
    with torch.no_grad():
        run = {t: CNF(field, solver={"method": method, "rtol": t, "atol": t}) for t in (1e-3, 1e-5)}
        exact = getattr(CNF(field, solver={"rtol": 1e-11, "atol": 1e-11}), direction)(x)
        for tolerance, cnf in run.items():
            for value, true in zip(getattr(cnf, direction)(x), exact, strict=True):
                assert (value - true).abs().max() < share * tolerance


@pytest.mark.parametrize("trace", ["hutchinson", {"estimator": "hutchinson", "noise": "gaussian"}])
def test_the_same_seed_gives_the_same_bits(trace, normal):
    x, results = normal(6, 3, dtype=torch.float32), []
    for _ in range(2):
        torch.manual_seed(11)
        flow = flows.build("ffjord", 3, hidden=8, trace=trace)
        calls = [flow.log_prob(x), flow.log_prob(x), flow.sample(4)]
        gradients = torch.autograd.grad(flow.loss(x), list(flow.parameters()))
        results.append([*calls, *gradients])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert not torch.equal(results[0][0], results[0][1])  # each solve draws anew


def test_scipy_solves_and_differentiates(normal):
    field, x = Waves(3), normal(4, 3)
    flow = Flow(CNF(field, solver={"method": "scipy_solver", "rtol": 1e-9, "atol": 1e-9}))
    reference = flow.using(solver={"rtol": 1e-10, "atol": 1e-10})
    with flows.count_nfe(flow) as nfe:
        losses = [f.loss(x) for f in (flow, reference)]
        gradients = [torch.autograd.grad(loss, list(field.parameters())) for loss in losses]
    assert min(nfe.forward, nfe.backward) > 0
    assert nfe.solves == [Solve(nfe.forward, nfe.backward)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-6)
    assert flow.sample(3).shape == (3, 3)
    with pytest.raises(SolveError, match=r" 9 .*t="):
        flow.using(solver={"method": "scipy_solver", "max_steps": 9}).log_prob(x)
    for fields in ({"gradient": "backprop"}, {"error_norm": "sample"}):
        with pytest.raises(ValueError, match=r"gradient='adjoint'.*error_norm='all'"):
            Solver(method="scipy_solver", **fields)


def test_two_solves_before_a_backward_keep_their_noise(normal):
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
    both = backprop.log_prob(x).sum() + backprop.log_prob(y).sum()
    reference = torch.autograd.grad(both, parameters)
    for value, one, two, expected in zip(together, *apart, reference, strict=True):
        torch.testing.assert_close(value, one + two, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)


class _Field(nn.Module):
    """A field that notes the threads of its forward and backward passes."""

    def __init__(self, seen: list[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 2), 0.1, dtype=torch.float64))
        self.seen, self.fails = seen, False

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.seen.append(torch.get_num_threads())
        dx = torch.tanh(x @ self.weight)
        if dx.requires_grad:
            dx.register_hook(self.note)
        return dx

    def note(self, gradient: Tensor) -> None:
        self.seen.append(torch.get_num_threads())
        if self.fails:
            raise RuntimeError("a backward pass that fails")

    def trace(self, t: Tensor, x: Tensor) -> Tensor:
        return x.sum(1)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
@pytest.mark.parametrize("small", [True, False])
def test_one_thread_for_small_solves(gradient, small, normal, monkeypatch):
    if not small:
        monkeypatch.setattr(threads, "WORK", 0)
    seen: list[int] = []
    loss = Flow(CNF(_Field(seen), solver={"gradient": gradient}), 2).loss(normal(5, 2))
    assert torch.get_num_threads() == 2
    loss.backward()
    assert torch.get_num_threads() == 2
    assert set(seen) == {1 if small else 2}


@pytest.mark.usefixtures("two_threads")
def test_threads_after_failures(normal):
    x = normal(5, 2)
    with pytest.raises(RuntimeError):
        Flow(CNF(Rowwise(lambda x: x * float("nan")))).log_prob(x)
    assert torch.get_num_threads() == 2
    for gradient in ("adjoint", "backprop"):
        field = _Field([])
        flow = Flow(CNF(field, solver={"gradient": gradient}), 2)
        field.fails = True
        loss = flow.loss(x)
        with pytest.raises(RuntimeError, match="fails"):
            loss.backward()
        field.fails = False
        flow.log_prob(x)
        assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_threads_that_are_kept(normal, monkeypatch):
    monkeypatch.setattr(threads._State, "fixed", False)
    threads.keep_threads()
    for block, number in ((nullcontext, 2), (threads.threads_by_work, 1)):
        seen: list[int] = []
        with block():
            Flow(CNF(_Field(seen)), 2).loss(normal(5, 2)).backward()
        assert set(seen) == {number}


@every_dim
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_potential_field_descends_its_potential(dim, depth, normal):
    """f = -∇ₓΦ and ∂Φ/∂t by autograd of the paper's formula; the Hessian is symmetric."""
    field, x = moved(PotentialField(dim, hidden=7, depth=depth)), normal(5, dim)

    def potential(s: Tensor) -> Tensor:
        u, h = (field.layers[0](s), 1 / max(1, depth - 1))
        u = torch.log(torch.exp(u) + torch.exp(-u))
        for layer in field.layers[1:]:
            a = layer(u)
            u = u + h * torch.log(torch.exp(a) + torch.exp(-a))
        quadratic = ((s @ field.A.T @ field.A) * s).sum(1) / 2
        return u @ field.w + quadratic + s @ field.b

    s = torch.cat([x, T.expand(5, 1)], 1).requires_grad_()
    (gradient,) = torch.autograd.grad(potential(s).sum(), s)
    torch.testing.assert_close(field(T, x), -gradient[:, :-1], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(field.time_derivative(T, x), gradient[:, -1], atol=1e-12, rtol=0)
    hessian = jacobians(lambda x: field(T, x), x)
    torch.testing.assert_close(hessian, hessian.mT, atol=1e-12, rtol=0)
    assert field.A.shape == (min(10, dim + 1), dim + 1)


@every_dim
def test_a_planar_field_is_its_sum(dim, normal):
    """Σ_h u_h σ(a_h t + c_h) tanh(w_hᵀx + b_h + V_h context), term by term."""
    field = moved(PlanarField(dim, hidden=4, context_dim=2))
    x, context, total = normal(5, dim), normal(5, 2, seed=1), torch.zeros(5, dim).double()
    for h in range(4):
        inner = x @ field.inner.weight[h] + field.inner.bias[h]
        wave = torch.tanh(inner + context @ field.context.weight[h])
        gate = 1 / (1 + torch.exp(-field.gate.weight[h, 0] * T - field.gate.bias[h]))
        total = total + gate * wave[:, None] * field.outer.weight[:, h]
    torch.testing.assert_close(field(T, x, context), total, atol=1e-13, rtol=1e-13)


@penalised
def test_penalties_do_not_steer(name, make_flow, normal):
    """With and without them log_prob is the same to the bit, in as many evaluations."""
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
def test_penalties_are_integrals(name, make_flow, normal):
    weights, solver = PENALISED[name], {"rtol": 1e-10, "atol": 1e-10}
    flow = make_flow(name, 2, hidden=5, **weights, solver=solver).using(noise=1)
    (cnf,) = (m for m in flow.modules() if hasattr(m, "penalties"))
    field, x = cnf.field, normal(4, 2)
    with collect(flow) as penalties, torch.no_grad():
        flow.log_prob(x)
    cnf.generator.manual_seed(1)
    probes = cnf.trace.draw(field, x, cnf.generator)

    def rate(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x = state[0]
        dx = field(t, x).detach()
        value = weights["kinetic"] * dx.square().sum(1) / 2
        if "jacobian" in weights:
            (probe,) = probes
            product = torch.einsum("ni,nij->nj", probe, jacobians(lambda x: field(t, x), x))
            value = value + weights["jacobian"] * product.square().sum(1)
        if "hjb" in weights:
            change = field.time_derivative(t, x).detach() - dx.square().sum(1) / 2
            value = value + weights["hjb"] * change.abs()
        return dx, value

    start, times = (x, torch.zeros(4).double()), torch.tensor([0.0, 1.0]).double()
    total = torchdiffeq.odeint(rate, start, times, rtol=1e-8, atol=1e-10)[1][-1]
    tolerance = 1e-3 if "hjb" in weights else 1e-6  # |·| has kinks, which no rule resolves
    torch.testing.assert_close(penalties[0], total, atol=0, rtol=tolerance)


@penalised
@pytest.mark.parametrize(("gradient", "step"), [("adjoint", 0.05), ("backprop", 0.25)])
def test_the_gradient_of_the_loss(name, gradient, step, make_flow, normal):
    solver = {"method": "rk4", "step_size": step, "gradient": gradient}
    flow = make_flow(name, 2, hidden=4, depth=1, **PENALISED[name], solver=solver).using(noise=1)
    x, tensors = normal(4, 2), tuple(flow.parameters())
    assert torch.autograd.gradcheck(lambda *_: flow.loss(x), tensors, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("width", [0, 2])
def test_the_loss_is_its_formula(coupling, width, normal):
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


def test_the_assignment_is_optimal(normal):
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
def test_the_loss_is_one_of_whitened_data(coupling, normal):
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


@pytest.mark.parametrize("name", ["flow_matching", "free_form"])
def test_what_is_prepended_to_a_regression_cannot_be_trained(name):
    """The regression would rather shrink the data; fixed, it is as good as any."""
    first, x = LULinear(2), torch.randn(5, 2)
    flow = flows.build(name, 2).prepend(first)
    with pytest.raises(ValueError, match=r"LULinear.*requires_grad_\(False\)"):
        flow.loss(x)
    first.requires_grad_(False)
    assert bool(torch.isfinite(flow.loss(x)))
