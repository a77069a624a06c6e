"""Gradients of solves against sensitivities, differences, and each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import flows
from continuous_fields import Waves
from flows import Flow
from flows.continuous import CNF

Normal = Callable[..., Tensor]


TIGHT = {"rtol": 1e-8, "atol": 1e-8}


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
    gradients = torch.autograd.grad(log_prob.sum(), [x, field.a, field.b, field.c])
    rows = [_independent(field, row) for row in x.detach().numpy()]
    expected = [
        np.stack([gradient[:dim] for _, _, gradient in rows]),
        *np.split(sum(g[dim:] for _, _, g in rows), [dim * dim, 2 * dim * dim]),
    ]
    results = [z, log_prob.detach(), *gradients]
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
    gradients = torch.autograd.grad(mean(*times), times)
    step, tolerance = 1e-4, 1e-6
    for index in range(2):
        values = []
        for sign in (step, -step):
            at = [0.1, 0.8]
            at[index] += sign
            values.append(mean(*at).item())
        assert abs(gradients[index] - (values[0] - values[1]) / (2 * step)) < tolerance

    cnf = CNF(field, solver=solver, t1=0.49, train_end_time=True).double()
    assert cnf.t1.item() == pytest.approx(0.49)
    Flow(cnf).log_prob(x).mean().backward()
    values = [mean(0.0, (0.7 + sign) ** 2).item() for sign in (step, -step)]
    assert cnf.sqrt_end_time.grad.item() == pytest.approx(
        (values[0] - values[1]) / (2 * step), abs=1e-6
    )


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize(("method", "stages"), [("dopri5", 6), ("dopri8", 13), ("bosh3", 3)])
@pytest.mark.parametrize("engine", ["native", "torchdiffeq"])
def test_a_gradient_goes_back_through_what_the_solution_is_made_of(
    engine: str, method: str, stages: int, direction: str, normal: Normal
) -> None:
    """Not what sets the first step, the last evaluation, rejected steps, nor any time."""
    reached: list[bool] = []

    class Watched(Waves):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            index, dx = len(reached), super().forward(t, x)
            assert index == 1 or not t.requires_grad
            reached.append(False)
            if dx.requires_grad:
                dx.register_hook(lambda _: reached.__setitem__(index, True))
            return dx

        def trace(self, t: Tensor, x: Tensor) -> Tensor:
            return torch.cos(x @ self.b.T + self.c * t) @ (self.b @ self.a).diagonal()

    solver = {"method": method, "rtol": 1e-3, "atol": 1e-3, "gradient": "backprop"}
    cnf = CNF(Watched(2), solver={**solver, "engine": engine, "first_step": "torchdiffeq"})
    with flows.count_nfe(cnf) as nfe:
        z, ladj = getattr(cnf, direction)(normal(4, 2).requires_grad_())
    (z.sum() + ladj.sum()).backward()
    assert len(reached) == nfe.forward
    assert (reached[1], reached[-1]) == (False, False)
    assert reached.count(True) == stages * nfe.accepted


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
