"""Solves against independent solutions: values, gradients, end times, neighbours, scipy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

import flows
from flows import Flow
from flows.continuous import CNF, MLPField, SolveError
from flows.continuous.ffjord import TABLE_4
from flows.continuous.solve import ADAPTIVE, FINAL, FIXED, SCIPY, Solver
from flows.counting import Solve

Normal = Callable[..., Tensor]
TIGHT = {"rtol": 1e-8, "atol": 1e-8}


class Waves(nn.Module):
    """A user's field with its own parameters: f(t, x) = A sin(B x + c t)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(dim)
        self.dim = dim

        def made(*shape: int) -> nn.Parameter:
            drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return nn.Parameter(drawn / dim**0.5)

        self.a, self.b, self.c = made(dim, dim), made(dim, dim), made(dim)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.sin(x @ self.b.T + self.c * t) @ self.a.T


def _independent(field: Waves, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """z, log p and its gradients by x, A, B, c: DOP853 at 1e-11 of the forward sensitivities.

    Of one row: dx/dt = f, dS/dt = J S for the sensitivities S to x and to the parameters, and the
    integrals of the trace and of its gradient, all written out in numpy.
    """
    a, b, c = (p.detach().numpy() for p in (field.a, field.b, field.c))
    dim = len(c)
    parameters = 2 * dim * dim + dim
    width = dim + parameters

    def augmented(t: float, y: np.ndarray) -> np.ndarray:
        state, sensitivity = y[:dim], y[dim : dim + dim * width].reshape(dim, width)
        phase = b @ state + c * t
        sine, cosine = np.sin(phase), np.cos(phase)
        jacobian = a @ (cosine[:, None] * b)
        direct = np.zeros((dim, width))  # ∂f/∂parameters
        direct_trace = np.zeros(width)  # ∂tr/∂parameters; tr = Σ_k cos_k (B A)_kk
        diagonal = np.einsum("ki,ik->k", b, a)
        for i, k in itertools.product(range(dim), range(dim)):
            at_a = dim + i * dim + k
            at_b = dim + dim * dim + k * dim + i
            direct[i, at_a] = sine[k]
            direct[:, at_b] = a[:, k] * cosine[k] * state[i]
            direct_trace[at_a] = cosine[k] * b[k, i]
            direct_trace[at_b] = cosine[k] * a[i, k] - sine[k] * state[i] * diagonal[k]
        direct[:, -dim:] = a * (cosine * t)
        direct_trace[-dim:] = -sine * t * diagonal
        by_state = -(sine * diagonal) @ b
        rates = (jacobian @ sensitivity + direct).ravel()
        return np.concatenate(
            [a @ sine, rates, [cosine @ diagonal], by_state @ sensitivity + direct_trace]
        )

    start = np.zeros((dim, width))
    start[:, :dim] = np.eye(dim)
    y0 = np.concatenate([x, start.ravel(), np.zeros(1 + width)])
    solved = solve_ivp(augmented, (0, 1), y0, "DOP853", rtol=1e-11, atol=1e-11).y[:, -1]
    z, sensitivity = solved[:dim], solved[dim : dim + dim * width].reshape(dim, width)
    log_prob = -0.5 * z @ z - 0.5 * dim * np.log(2 * np.pi) + solved[dim + dim * width]
    gradient = -z @ sensitivity + solved[dim + dim * width + 1 :]
    return z, log_prob, gradient


@pytest.mark.parametrize("dim", [2, 6, 21])
@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
def test_against_forward_sensitivities(dim: int, gradient: str, normal: Normal) -> None:
    """z, log p and every gradient of a user's field, within a relative 1e-6 at rtol 1e-8."""
    field = Waves(dim)
    flow = Flow(CNF(field, solver={**TIGHT, "gradient": gradient}))
    x = normal(2, dim).requires_grad_()
    with torch.no_grad():
        z = flow.to_noise(x)
    log_prob = flow.log_prob(x)
    got = torch.autograd.grad(log_prob.sum(), [x, field.a, field.b, field.c])
    rows = [_independent(field, row) for row in x.detach().numpy()]
    expected = [
        np.stack([gradient[:dim] for _, _, gradient in rows]),
        *np.split(sum(g[dim:] for _, _, g in rows), [dim * dim, 2 * dim * dim]),
    ]
    results = [z, log_prob.detach(), *got]
    for result, reference in zip(
        results, [[r[0] for r in rows], [r[1] for r in rows], *expected], strict=True
    ):
        true = torch.as_tensor(np.array(reference)).reshape(result.shape)
        assert (result - true).norm() < 1e-6 * true.norm()


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_gradient_of_the_end_time(gradient: str, method: str, normal: Normal) -> None:
    """d log p / dt1 and / dt0 of tensors, and of the parameter of a trained end, by differences."""
    steps = {"step_size": 0.05} if method == "rk4" else {"rtol": 1e-9, "atol": 1e-9}
    solver, x = {"method": method, "gradient": gradient, **steps}, normal(3, 2)
    field = Waves(2)

    def mean(t0: Any, t1: Any) -> Tensor:
        return Flow(CNF(field, solver=solver, t0=t0, t1=t1)).log_prob(x).mean()

    times = [torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (0.1, 0.8)]
    got = torch.autograd.grad(mean(*times), times)
    step, tolerance = 1e-4, 1e-6
    for index in range(2):
        values = []
        for sign in (step, -step):
            at = [0.1, 0.8]
            at[index] += sign
            values.append(mean(*at).item())
        assert abs(got[index] - (values[0] - values[1]) / (2 * step)) < tolerance

    cnf = CNF(field, solver=solver, t1=0.49, train_end_time=True).double()
    assert cnf.t1.item() == pytest.approx(0.49)
    Flow(cnf).log_prob(x).mean().backward()
    values = [mean(0.0, (0.7 + sign) ** 2).item() for sign in (step, -step)]
    assert cnf.sqrt_end_time.grad.item() == pytest.approx(
        (values[0] - values[1]) / (2 * step), abs=1e-6
    )


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
            for got, true in zip(getattr(cnf, direction)(x), exact, strict=True):
                assert (got - true).abs().max() < share * tolerance


def test_whose_last_evaluation_is_at_the_solution() -> None:
    """By their tableaus: the weights of the solution are those of the last stage."""
    from torchdiffeq._impl.odeint import SOLVERS

    def last(tableau: Any) -> bool:
        closing = len(tableau.beta[-1]) == len(tableau.c_sol) - 1 and tableau.alpha[-1] == 1
        equal = closing and torch.equal(tableau.c_sol[:-1], tableau.beta[-1])
        return bool(equal and tableau.c_sol[-1] == 0)

    assert {name for name in ADAPTIVE if last(SOLVERS[name].tableau)} == set(FINAL)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize(("method", "stages"), [("dopri5", 6), ("dopri8", 13), ("bosh3", 3)])
def test_a_gradient_goes_back_through_what_the_solution_is_made_of(
    method: str, stages: int, direction: str, normal: Normal
) -> None:
    """Not what sets the first step, the last evaluation, rejected steps, nor any time."""
    asked: list[bool] = []

    class Watched(Waves):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            index, dx = len(asked), super().forward(t, x)
            assert index == 1 or not t.requires_grad
            asked.append(False)
            if dx.requires_grad:
                dx.register_hook(lambda _: asked.__setitem__(index, True))
            return dx

        def trace(self, t: Tensor, x: Tensor) -> Tensor:
            return torch.cos(x @ self.b.T + self.c * t) @ (self.b @ self.a).diagonal()

    solver = {"method": method, "rtol": 1e-3, "atol": 1e-3, "gradient": "backprop"}
    cnf = CNF(Watched(2), solver=solver)
    with flows.count_nfe(cnf) as nfe:
        z, ladj = getattr(cnf, direction)(normal(4, 2).requires_grad_())
    (z.sum() + ladj.sum()).backward()
    assert len(asked) == nfe.forward
    assert (asked[1], asked[-1]) == (False, False)
    assert asked.count(True) == stages * nfe.accepted


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


def test_adjoint_and_backprop_agree_as_tolerance_falls(normal: Normal) -> None:
    """The relative distance of their gradients falls with the tolerance, and ends below 1e-8."""
    field, x = Waves(3), normal(8, 3)
    distances = []
    for tolerance in (1e-3, 1e-5, 1e-7, 1e-10):
        gradients = []
        for gradient in ("adjoint", "backprop"):
            solver = {"rtol": tolerance, "atol": tolerance, "gradient": gradient}
            loss = Flow(CNF(field, solver=solver)).loss(x)
            grads = torch.autograd.grad(loss, list(field.parameters()))
            gradients.append(torch.cat([g.flatten() for g in grads]))
        a, b = gradients
        distances.append(((a - b).norm() / b.norm()).item())
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-8


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
    with pytest.raises(SolveError, match="limit of 9 evaluations near t="):
        flow.using(solver={"method": "scipy_solver", "max_steps": 9}).log_prob(x)
    for fields in ({"gradient": "backprop"}, {"error_norm": "sample"}):
        with pytest.raises(ValueError, match="gradient='adjoint' and error_norm='all' alone"):
            Solver(method="scipy_solver", **fields)


def test_methods_are_torchdiffeqs() -> None:
    """Every method that the library has, and none that it has not."""
    from torchdiffeq._impl.odeint import SOLVERS

    assert {*ADAPTIVE, *FIXED, *SCIPY} == set(SOLVERS)


def test_gradients_in_stacks_and_with_context(normal: Normal) -> None:
    """x, context and every parameter of two stacked pieces, in both directions, by differences."""
    torch.manual_seed(0)
    solver = {"rtol": 1e-9, "atol": 1e-9}
    flow = flows.build("cnf", 2, hidden=5, layers=2, context_dim=2, solver=solver).double()
    x, context = normal(3, 2).requires_grad_(), normal(3, 2, seed=1).requires_grad_()
    names, parameters = zip(*flow.named_parameters(), strict=True)
    for inverse in (False, True):

        def objective(inverse: bool = inverse) -> Tensor:
            run = flow.transform.inverse if inverse else flow.transform
            y, ladj = run(x, context)
            return (y.sin().sum() + ladj.cos().sum()) / 3

        gradients = torch.autograd.grad(objective(), [x, context, *parameters])
        for name, tensor, gradient in zip(
            ("x", "context", *names), (x, context, *parameters), gradients, strict=True
        ):
            flat, index = tensor.detach().view(-1), int(gradient.abs().argmax())
            before, values = flat[index].item(), []
            for offset in (1e-5, -1e-5):
                flat[index] = before + offset
                with torch.no_grad():
                    values.append(objective().item())
            flat[index] = before
            difference = (values[0] - values[1]) / 2e-5
            assert gradient.reshape(-1)[index].item() == pytest.approx(difference, abs=1e-6), name


def test_no_graph_without_gradients(normal: Normal) -> None:
    """Under no_grad nothing of a solve is kept, whatever the trace and the method of gradients."""
    x = normal(4, 3)
    for trace, gradient in itertools.product(
        ("loop", "basis", "hutchinson", "closed_form"), ("adjoint", "backprop")
    ):
        solver = {"method": "rk4", "step_size": 0.5, "gradient": gradient}
        flow = flows.build("cnf", 3, hidden=5, trace=trace, solver=solver).double()
        with torch.no_grad():
            log_prob = flow.log_prob(x)
        assert log_prob.grad_fn is None
        assert not log_prob.requires_grad


def test_times_that_cannot_be() -> None:
    """Equal times at construction, and times that have become equal or infinite since."""
    x = torch.zeros(2, 2, dtype=torch.float64)
    t1 = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    flow = Flow(CNF(Waves(2), t1=t1))
    for value in (0.0, float("nan")):
        with torch.no_grad():
            t1.fill_(value)
        with pytest.raises(SolveError, match="two finite times that differ, got 0"):
            flow.log_prob(x)
