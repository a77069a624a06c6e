"""Continuous flows against linear ODEs, scipy, differences, and their own identities."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from torch import Tensor, nn

import flows
from flows import Flow
from flows.continuous import CNF, MLPField, SolveError, Solver
from flows.continuous.activations import ACTIVATIONS
from flows.continuous.point import Point
from flows.continuous.solve import ADAPTIVE, FIXED
from flows.continuous.time_layers import TIME
from flows.continuous.trace import TRACES, Trace

Normal = Callable[..., Tensor]
Solve = dict[str, Any]
Differences = Callable[..., None]

OF_AN_MLP = [name for name in TRACES if name not in ("hollow", "bottleneck")]
DOPRI5 = {"rtol": 1e-9, "atol": 1e-9}
generated = settings(max_examples=60, deadline=None, derandomize=True, database=None)


class Linear(nn.Module):
    """f(t, x) = A x, which knows neither its trace nor a context."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())
        self.dim = len(matrix)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return x @ self.matrix.T


class Rowwise(nn.Module):
    """f(t, x) = function(x), in one dimension or many."""

    def __init__(self, function: Callable[[Tensor], Tensor], dim: int = 2) -> None:
        super().__init__()
        self.function, self.dim = function, dim

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.function(x)


class Scaled(nn.Module):
    """f(t, x) = factor x, of a factor that can be changed."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.factor * x


def _field(dim: int, *, seed: int = 0, spread: float = 0.3, **options: Any) -> MLPField:
    torch.manual_seed(seed)
    field = MLPField(dim, **{"hidden": 8, **options}).double()
    with torch.no_grad():
        for parameter in field.parameters():
            parameter += spread * torch.randn_like(parameter)
    return field


def _flow(dim: int = 3, *, trace: str = "exact", solver: Any = None, **options: Any) -> Flow:
    field = _field(dim, **options)
    cnf = CNF(field, trace=trace, solver=DOPRI5 if solver is None else solver)
    return Flow(cnf, dim, options.get("context_dim", 0))


def _rate(
    trace: Any, field: Any, t: Tensor, x: Tensor, context: Any = None, noise: Any = None
) -> Any:
    return Trace.of(trace).rate(Point(field, t, x, context), noise)


def _times(*times: float) -> list[Tensor]:
    return [torch.tensor(time, dtype=torch.float64) for time in times]


# ---- against what is known otherwise ----------------------------------------------------------


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
    flow = _flow(3, depth=2, solver={"rtol": 1e-11, "atol": 1e-11})
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

    velocity = _field(2)
    z = Flow(CNF(velocity, t0=1.0, t1=0.0, solver=DOPRI5)).to_noise(x)
    data = Flow(CNF(velocity, solver={"method": "rk4", "step_size": 0.01})).to_noise(z)  # 0 to 1
    torch.testing.assert_close(data, x, atol=1e-7, rtol=0)


# ---- fields and traces ------------------------------------------------------------------------

FIELDS = {
    "dim": st.integers(1, 6),
    "hidden": st.integers(1, 9),
    "depth": st.integers(1, 3),
    "activation": st.sampled_from(sorted(ACTIVATIONS)),
    "time": st.sampled_from(sorted(TIME)),
    "context_dim": st.integers(0, 2),
}


@generated
@given(options=st.fixed_dictionaries(FIELDS), seed=st.integers(0, 10**6))
def test_traces_agree(options: dict[str, Any], seed: int) -> None:
    """Closed form, loop and Jacobian agree to rounding, for narrow and wide fields of any kind."""
    field = _field(seed=seed, **options)
    dim, width = options["dim"], options["context_dim"]
    x = 2 * torch.randn(4, dim, dtype=torch.float64)
    context = torch.randn(4, width, dtype=torch.float64) if width else None
    (t,) = _times(torch.rand(()).item())
    rows = [None] * 4 if context is None else context[:, None]
    jacobians = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda x, c=c: field(t, x[None], c)[0], row)
            for row, c in zip(x, rows, strict=True)
        ]
    )
    size = jacobians.flatten(1).norm(dim=1) + 1e-3
    loop_dx, loop = _rate("loop", field, t, x, context)
    dx, closed = _rate("closed_form", field, t, x, context)
    torch.testing.assert_close(loop_dx, field(t, x, context), atol=0, rtol=0)
    torch.testing.assert_close(dx, loop_dx, atol=1e-14, rtol=1e-14)
    assert bool(((loop - closed).abs() <= 1e-12 * size).all())
    exact = jacobians.diagonal(dim1=1, dim2=2).sum(1)
    assert bool(((exact - closed).abs() <= 1e-12 * size).all())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("time", TIME)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("dim", "hidden"), [(3, 7), (7, 3)])
def test_every_closed_form(activation: str, time: str, depth: int, dim: int, hidden: int) -> None:
    """Each combination once, so that none is left to chance; its gradient is the loop's."""
    field = _field(dim, hidden=hidden, depth=depth, activation=activation, time=time)
    x = torch.randn(3, dim, dtype=torch.float64, requires_grad=True)
    (t,) = _times(0.3)
    results = [_rate(trace, field, t, x)[1] for trace in ("loop", "closed_form")]
    torch.testing.assert_close(*results, atol=1e-12, rtol=1e-12)
    tensors = [x, *field.parameters()]
    gradients = [
        torch.autograd.grad(r.sum(), tensors, allow_unused=True, materialize_grads=True)
        for r in results
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("time", TIME)
def test_time_enters_as_its_kind_says(time: str, normal: Normal) -> None:
    """Only "ignore" does not depend on t."""
    field, x = _field(3, time=time), normal(4, 3)
    early, late = (field(t, x) for t in _times(0.1, 0.9))
    assert torch.allclose(early, late) == (time == "ignore")


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_hutchinson_over_all_probes(depth: int, normal: Normal) -> None:
    """Over all 2^D probes the mean is the trace and the variance 2 (‖S‖² - Σ S_ii²), exactly."""
    field, (t,), x = _field(4, depth=depth), _times(0.4), normal(1, 4)
    probes = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)), dtype=torch.float64)
    _, estimates = _rate("hutchinson", field, t, x.expand(16, -1), noise=(probes,))
    jacobian = torch.autograd.functional.jacobian(lambda x: field(t, x[None])[0], x[0])
    symmetric = (jacobian + jacobian.T) / 2
    variance = 2 * (symmetric.square().sum() - symmetric.diagonal().square().sum())
    torch.testing.assert_close(estimates.mean(), jacobian.trace(), atol=1e-12, rtol=0)
    torch.testing.assert_close(estimates.var(correction=0), variance, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("trace", ["loop", "exact", "hutchinson"])
def test_fields_that_hardly_depend_on_x(trace: str, normal: Normal) -> None:
    """A constant field and one with a constant column: their traces are zero and one half."""
    x = normal(4, 2)

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.tensor([1.0, -2.0]).double())

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return self.shift.expand_as(x)

    half = Rowwise(lambda x: torch.cat([x[:, :1] / 2, torch.ones_like(x[:, 1:])], 1))
    for field, ladj in ((Constant(), 0.0), (half, 0.5)):
        flow = Flow(CNF(field, trace=trace), dim=2)
        z, got = flow.transform(x)
        torch.testing.assert_close(got.detach(), torch.full((4,), ladj).double())
        with torch.no_grad():
            torch.testing.assert_close(flow.transform(x)[0], z.detach())


@pytest.mark.parametrize("offer", ["with_trace", "trace", "trace without context"])
@pytest.mark.parametrize("conditional", [False, True])
def test_user_fields_with_a_trace(offer: str, conditional: bool, normal: Normal) -> None:
    """A field of any signature may offer its trace; "exact" takes it, and "loop" agrees."""
    inner = _field(3, context_dim=2 if conditional else 0)
    calls: list[str] = []

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        if conditional:

            def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
                return self.inner(t, x, context)
        else:

            def forward(self, t: Tensor, x: Tensor) -> Tensor:
                return self.inner(t, x)

        if offer == "with_trace":

            def with_trace(self, t: Tensor, x: Tensor, context: Tensor | None) -> Any:
                calls.append(offer)
                return self.inner.with_trace(t, x, context)
        elif offer == "trace":

            def trace(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
                calls.append(offer)
                return self.inner.with_trace(t, x, context)[1]
        elif not conditional:

            def trace(self, t: Tensor, x: Tensor) -> Tensor:
                calls.append(offer)
                return self.inner.with_trace(t, x)[1]

    flow = Flow(CNF(Field(), solver=DOPRI5), dim=3)
    x, context = normal(4, 3), normal(4, 2, seed=1) if conditional else None
    reference = Flow(CNF(inner, solver=DOPRI5)).log_prob(x, context)
    torch.testing.assert_close(flow.log_prob(x, context), reference, atol=1e-8, rtol=0)
    if not (conditional and offer == "trace without context"):
        assert calls
    loop = flow.using(trace="loop").log_prob(x, context)
    torch.testing.assert_close(loop, reference, atol=1e-8, rtol=0)


def test_closed_form_needs_a_field_that_has_one(normal: Normal) -> None:
    """The error names the field and the remedies."""
    flow = Flow(CNF(Linear(torch.eye(2).double()), trace="closed_form"))
    with pytest.raises(TypeError, match=r"Linear knows no closed form.*trace='loop'"):
        flow.log_prob(normal(3, 2))


# ---- noise ------------------------------------------------------------------------------------


def test_fixed_noise_is_reproducible(normal: Normal) -> None:
    """``using(noise=7)`` gives equal results at each call and from each fresh view."""
    flow, x = _flow(3, trace="hutchinson"), normal(6, 3)
    view = flow.using(noise=7)
    first = view.log_prob(x)
    for again in (view, flow.using(noise=7), flow.using(noise=7).train(False)):
        torch.testing.assert_close(again.log_prob(x), first, atol=0, rtol=0)
    assert not torch.allclose(flow.using(noise=8).log_prob(x), first)
    assert not torch.allclose(flow.log_prob(x), flow.log_prob(x))  # the original draws on


def test_a_view_leaves_the_original_alone(normal: Normal) -> None:
    """Trace, solver, noise, counters and the stream of random numbers stay what they were."""
    flow, x = _flow(3, trace="hutchinson"), normal(6, 3)
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
    flow, x, y = _flow(3, trace="hutchinson"), normal(5, 3), normal(5, 3, seed=1)
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
    for got, one, two, expected in zip(together, *apart, reference, strict=True):
        torch.testing.assert_close(got, one + two, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


def test_probes_follow_the_seed_of_construction(normal: Normal) -> None:
    """torch's seed at construction decides the probes, its later draws do not."""
    x, drawn = normal(4, 3), []
    for disturbance in (0, 10):
        flow = _flow(3, trace="hutchinson")
        torch.rand(disturbance)
        drawn.append(flow.log_prob(x))
    torch.testing.assert_close(*drawn, atol=0, rtol=0)


# ---- gradients --------------------------------------------------------------------------------


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
    made = make_flow("cnf", 2, hidden=5, depth=1, layers=2, context_dim=2)
    flow = made.using(trace=trace, solver={**DOPRI5, "gradient": gradient}, noise=1)
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
    backprop = made.using(trace=trace, solver={**DOPRI5, "gradient": "backprop"}, noise=1)
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
    flow, x = _flow(3), normal(4, 3)
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
    flow = _flow(3, solver={"rtol": 1e-5, "atol": 1e-5, "max_steps": 20})
    x = normal(4, 3).requires_grad_()
    log_prob = flow.log_prob(x)
    gradients = [torch.autograd.grad(log_prob.sum(), x, retain_graph=True)[0] for _ in range(10)]
    torch.testing.assert_close(gradients[0], gradients[-1], atol=0, rtol=0)


@pytest.mark.parametrize("trace", OF_AN_MLP)
def test_modes_without_grad(trace: str, normal: Normal) -> None:
    """no_grad and inference_mode return what grad mode does, in both directions."""
    flow, x = _flow(3, trace=trace).using(noise=1), normal(5, 3)
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


# ---- counting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
@pytest.mark.parametrize(("layers", "first_step"), [(1, None), (2, None), (2, 0.5)])
def test_nfe_of_dopri5(
    gradient: str, layers: int, first_step: float | None, make_flow: Any, normal: Normal
) -> None:
    """A solve takes 2 + 6 (accepted + rejected), 1 less with a first step; adjoints the same."""
    solver = {"rtol": 1e-6, "atol": 1e-6, "gradient": gradient, "first_step": first_step}
    start = 2 if first_step is None else 1
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
    flow = _flow(2)
    for step_size, steps in ((0.3, 4), (0.5, 2), (0.51, 2), (1.0, 1), (5.0, 1)):
        view = flow.using(solver={"method": "euler", "step_size": step_size})
        with flows.count_nfe(view) as nfe:
            view.log_prob(normal(3, 2))
        assert nfe.forward == steps


@pytest.mark.parametrize("trace", OF_AN_MLP)
def test_a_count_is_field_and_trace_together(trace: str, normal: Normal) -> None:
    """Whatever the trace needs, an evaluation counts once; a nested counter sees its block."""
    flow = _flow(3, trace=trace, solver={"method": "euler", "step_size": 0.25})
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


# ---- accuracy ---------------------------------------------------------------------------------


ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}
ORDERS |= {"explicit_adams": 4, "implicit_adams": 5, "fixed_adams": 5}  # all start by rk4


@pytest.mark.parametrize("method", FIXED)
def test_order_of_convergence(method: str, normal: Normal) -> None:
    """log_prob converges with the order of the method: the slope of error over step."""
    flow, x = _flow(3, depth=2, spread=0.1), normal(16, 3)
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
    flow, x = _flow(2), normal(4, 2)
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
    flow = _flow(3, context_dim=2)
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
    flow, x = _flow(3), normal(16, 3)
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
    whole = Flow(CNF(cnfs[0].field, solver=DOPRI5))
    x = normal(4, 3)
    torch.testing.assert_close(flow.log_prob(x), whole.log_prob(x), atol=1e-7, rtol=0)


def test_empty_batches(normal: Normal) -> None:
    """No rows: no solve, with and without a context, in both directions."""
    for width in (0, 2):
        flow = _flow(3, context_dim=width)
        context = normal(0, width) if width else None
        with flows.count_nfe(flow) as nfe:
            assert flow.log_prob(normal(0, 3), context).shape == (0,)
            assert flow.sample(0, context).shape == (0, 3)
        assert nfe.forward == 0


# ---- failures ---------------------------------------------------------------------------------

ADJUSTED = {"method": "rk4", "step_size": 0.05}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("solver", [{}, ADJUSTED, {"method": "dopri8"}, {"error_norm": "sample"}])
@pytest.mark.parametrize("direction", ["log_prob", "sample"])
def test_a_field_that_is_not_finite(
    value: float, solver: Solve, direction: str, normal: Normal
) -> None:
    """NaN or infinity in one row stops the solve with the count of rows and the time."""
    field = Rowwise(lambda x: x * torch.where(torch.arange(len(x)) == 1, value, 1.0)[:, None])
    flow = Flow(CNF(field, solver=solver))
    run = flow.sample if direction == "sample" else flow.log_prob
    with pytest.raises(SolveError, match=r"NaN or infinity for 1 of 4 samples near t="):
        run(4 if direction == "sample" else normal(4, 2))


@pytest.mark.parametrize("solver", [{}, ADJUSTED, {"gradient": "backprop"}])
def test_finite_time_blow_up(solver: Solve) -> None:
    """x' = x² from 2 leaves every bound at t = 1/2: an error, and never an endless solve."""
    flow = Flow(CNF(Rowwise(lambda x: x * x, dim=1), solver=solver))
    with pytest.raises(SolveError, match=r"t=|not finite"):
        flow.log_prob(torch.full((3, 1), 2.0, dtype=torch.float64))


def test_a_state_that_overflows_is_an_error() -> None:
    """A finite log-determinant does not excuse an infinite state."""
    field = Rowwise(lambda x: 1e8 * x, dim=1)
    for gradient in ("adjoint", "backprop"):
        flow = Flow(CNF(field, solver={**ADJUSTED, "gradient": gradient}))
        with pytest.raises(SolveError, match=r"not finite|NaN or infinity"):
            flow.log_prob(torch.ones(2, 1, dtype=torch.float64))


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
def test_max_steps(gradient: str, normal: Normal) -> None:
    """The limit is named with the time that was reached and what to raise."""
    flow = Flow(
        CNF(Rowwise(lambda x: torch.sin(200 * x)), solver={"max_steps": 12, "gradient": gradient})
    )
    with pytest.raises(SolveError, match=r"limit of 12 steps at t=0\.\d+.*raise max_steps"):
        flow.log_prob(normal(4, 2))


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm"])
def test_failures_of_the_adjoint(gradient: str, normal: Normal) -> None:
    """A backward solve that needs too many steps, or meets NaN, is a SolveError too."""
    matrix = torch.diag(torch.tensor([-60.0, -0.1], dtype=torch.float64))
    solver = {"rtol": 1e-3, "atol": 1e-3, "gradient": gradient}
    x = normal(4, 2).requires_grad_()
    flow = Flow(CNF(Linear(matrix), solver=solver))
    with flows.count_nfe(flow) as nfe:
        flow.to_noise(x)
    steps = nfe.accepted + nfe.rejected
    limited = flow.using(solver={**solver, "rtol": 1e-3, "max_steps": steps})
    noise = limited.to_noise(x)  # forward it just suffices; backward a stable field explodes
    with pytest.raises(SolveError, match=f"limit of {steps} steps|step size fell|NaN"):
        (1e6 * noise).sum().backward()

    for other in (solver, {**ADJUSTED, "gradient": gradient}):
        broken = Scaled(1.0)
        log_prob = Flow(CNF(broken, solver=other)).log_prob(x)
        broken.factor = math.nan
        with pytest.raises(SolveError, match=r"NaN or infinity for 4 of 4 samples near t="):
            log_prob.sum().backward()


@pytest.mark.parametrize(
    "solver", [{}, ADJUSTED, {"gradient": "backprop"}, {"error_norm": "state"}]
)
def test_a_trace_that_is_not_finite(solver: Solve, normal: Normal) -> None:
    """NaN in the trace alone, which no norm of the state need see, is an error all the same."""

    class Field(Scaled):
        def trace(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
            return x.new_full((len(x),), math.nan)

    with pytest.raises(SolveError, match="trace is NaN or infinity for 4 of 4 samples near t="):
        Flow(CNF(Field(1.0), solver=solver)).log_prob(normal(4, 2))


UNDER_O = """
import math, sys, torch
from torch import nn
from flows import Flow
from flows.continuous import CNF, SolveError
assert False, "asserts are on"
class F(nn.Module):
    def __init__(self, f): super().__init__(); self.f = f
    def forward(self, t, x): return self.f(x)
x = torch.full((3, 1), 2.0, dtype=torch.float64)
for f in (lambda x: x * math.nan, lambda x: x * x, lambda x: torch.sin(1e4 * x)):
    try: Flow(CNF(F(f), solver={"max_steps": 100})).log_prob(x)
    except SolveError as error: print("SolveError", error)
"""


def test_failures_do_not_rest_on_asserts() -> None:
    """torchdiffeq's checks are asserts, which ``python -O`` removes; ours remain."""
    root = Path(__file__).resolve().parent.parent
    run = subprocess.run(
        [sys.executable, "-O", "-c", UNDER_O], cwd=root, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["SolveError"] * 3


# ---- what a Solver and a CNF refuse -----------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "rk5"}, "unknown method 'rk5'.*dopri5.*rk4"),
        ({"gradient": "adjont"}, "unknown gradient 'adjont'.*adjoint, seminorm, backprop"),
        ({"error_norm": "max"}, "unknown error_norm 'max'.*all, state, sample"),
        ({"method": "rk4"}, "'rk4' needs a step_size"),
        (
            {"method": "rk4", "step_size": -0.1},
            r"step_size must be a positive, finite number, got -0",
        ),
        ({"step_size": 0.1}, "'dopri5' chooses its steps"),
        ({"rtol": 0.0}, r"rtol must be a positive, finite number, got 0\.0"),
        ({"atol": math.nan}, "atol must be a positive, finite number, got nan"),
        ({"max_steps": 0}, "max_steps must be a positive, finite number, got 0"),
        ({"first_step": "a"}, "first_step must be a positive, finite number, got 'a'"),
        ({"rtol": True}, "rtol must be a positive, finite number, got True"),
        ({"first_step": math.inf}, "first_step must be a positive, finite number, got inf"),
        ({"method": "rk4", "step_size": 0.1, "first_step": 0.1}, "'rk4' takes no first_step"),
        ({"tolerance": 1e-3}, "no 'tolerance'; it has: method, rtol"),
    ],
)
def test_solvers_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    """The wrong value and the choices, from a mapping as from the class."""
    with pytest.raises(ValueError, match=message):
        Solver.of(fields)
    with pytest.raises(ValueError, match=message):
        flows.build("cnf", 2, solver=fields)


def test_a_solver_from_its_forms() -> None:
    """Itself, a name, a mapping; frozen and hashable."""
    assert Solver.of("bosh3") == Solver(method="bosh3")
    assert Solver.of({"rtol": 1e-3}) == Solver(rtol=1e-3)
    solver = Solver()
    assert Solver.of(solver) is solver
    assert len({Solver(), Solver(), Solver(rtol=1e-2)}) == 2


def test_cnfs_that_cannot_be() -> None:
    """Equal times, unknown traces and unknown parts of a field."""
    field = _field(2)
    with pytest.raises(ValueError, match=r"two different times, got t0 = t1 = 1\.0"):
        CNF(field, t0=1.0, t1=1.0)
    with pytest.raises(ValueError, match=r"unknown trace 'exakt'.*exact, loop"):
        CNF(field, trace="exakt")
    with pytest.raises(ValueError, match="unknown trace 'exakt'"):
        Flow(CNF(field)).using(trace="exakt")
    with pytest.raises(ValueError, match=r"unknown activation 'relu'.*tanh"):
        MLPField(2, activation="relu")
    with pytest.raises(ValueError, match=r"unknown time 'sin'.*ignore, concat"):
        MLPField(2, time="sin")
    with pytest.raises(ValueError, match="start at 1, got 2, 0, 1"):
        MLPField(2, hidden=0, depth=1)


@pytest.mark.parametrize("width", [0, 2])
def test_a_context_is_never_ignored(width: int, normal: Normal) -> None:
    """A field that takes none refuses one, a field that needs one refuses to do without."""
    flow = Flow(CNF(MLPField(2, hidden=4, context_dim=width).double()))
    context = None if width else normal(3, 2)
    with pytest.raises(ValueError, match="context"):
        flow.log_prob(normal(3, 2), context)


def test_a_field_without_context_refuses_one(normal: Normal) -> None:
    """Also a user's own field, which has no say in it."""

    class Field(torch.nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return -x

    with pytest.raises(ValueError, match="Field takes no context"):
        Flow(CNF(Field(), trace="loop")).log_prob(normal(3, 2), normal(3, 2))


@pytest.mark.parametrize("trace", ["loop", "hutchinson", "closed_form"])
def test_a_field_of_another_shape_is_refused(trace: str, normal: Normal) -> None:
    """With the shape that was expected and the one that came."""

    class Field(torch.nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return x[:, :1]

        def trace(self, t: Tensor, x: Tensor) -> Tensor:
            return x[:, 0]

    with pytest.raises(ValueError, match=r"Field to return \(3, 2\),.* returned \(3, 1\)"):
        Flow(CNF(Field(), trace=trace)).log_prob(normal(3, 2))
