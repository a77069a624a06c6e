"""Solves that fail say why, and what cannot be solved is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import flows
from continuous_fields import Rowwise, mlp_field
from flows import Flow
from flows.continuous import CNF, MLPField, SolveError, Solver
from flows.continuous.hollow import HollowField
from flows.continuous.ot_flow import PotentialField
from flows.continuous.planar_cnf import PlanarField

Solve = dict[str, Any]

ADJUSTED = {"method": "rk4", "step_size": 0.05}
THEIRS = {"engine": "torchdiffeq"}


def on_both_engines(*solvers: Solve) -> Any:
    """Each solver by either engine, as parameters of a test."""
    return pytest.mark.parametrize("solver", [*solvers, *({**s, **THEIRS} for s in solvers)])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@on_both_engines({}, ADJUSTED, {"method": "dopri8"}, {"error_norm": "sample"})
@pytest.mark.parametrize("direction", ["log_prob", "sample"])
def test_a_field_that_is_not_finite(value, solver, direction, normal):
    field = Rowwise(lambda x: x * torch.where(torch.arange(len(x)) == 1, value, 1.0)[:, None])
    flow = Flow(CNF(field, solver=solver))
    run = flow.sample if direction == "sample" else flow.log_prob
    with pytest.raises(SolveError, match=r"NaN.* 1 of 4 .*t="):
        run(4 if direction == "sample" else normal(4, 2))


@pytest.mark.parametrize("engine", [{}, THEIRS], ids=["ours", "theirs"])
@pytest.mark.parametrize(
    ("field", "solver"),
    [
        *((lambda x: x * x, solver) for solver in ({}, ADJUSTED, {"gradient": "backprop"})),
        *((lambda x: 1e8 * x, {**ADJUSTED, "gradient": by}) for by in ("adjoint", "backprop")),
    ],
)
def test_a_state_that_overflows_is_an_error(field, solver, engine):
    """x' = x² from 2 leaves every bound at t = 1/2; a finite log-determinant is no excuse."""
    flow = Flow(CNF(Rowwise(field, dim=1), solver={**solver, **engine}))
    with pytest.raises(SolveError, match=r"t=|not finite|NaN or infinity"):
        flow.log_prob(torch.full((3, 1), 2.0, dtype=torch.float64))


@on_both_engines(*({"gradient": gradient} for gradient in ("adjoint", "seminorm", "backprop")))
def test_max_steps(solver, normal):
    field = Rowwise(lambda x: torch.sin(200 * x))
    flow = Flow(CNF(field, solver={"max_steps": 12, **solver}))
    with pytest.raises(SolveError, match=r" 12 .*t=0\.\d+.*max_steps"):
        flow.log_prob(normal(4, 2))


@on_both_engines({"gradient": "adjoint"}, {"gradient": "seminorm"})
def test_failures_of_the_adjoint(solver, normal):
    matrix = torch.diag(torch.tensor([-60.0, -0.1], dtype=torch.float64))
    solver = {"rtol": 1e-3, "atol": 1e-3, **solver}
    x = normal(4, 2).requires_grad_()
    flow = Flow(CNF(Rowwise(lambda x: x @ matrix), solver=solver))
    with flows.count_nfe(flow) as nfe:
        flow.to_noise(x)
    steps = nfe.accepted + nfe.rejected
    limited = flow.using(solver={**solver, "rtol": 1e-3, "max_steps": steps})
    noise = limited.to_noise(x)  # forward it just suffices; backward a stable field explodes
    with pytest.raises(SolveError, match=f" {steps} steps|step size|NaN"):
        (1e6 * noise).sum().backward()

    fixed = {name: solver[name] for name in ("gradient", "engine") if name in solver}
    for other in (solver, {**ADJUSTED, **fixed}):
        broken = Rowwise(lambda x: x)
        log_prob = Flow(CNF(broken, solver=other)).log_prob(x)
        broken.function = lambda x: x * math.nan
        with pytest.raises(SolveError, match=r"NaN.* 4 of 4 .*t="):
            log_prob.sum().backward()


@on_both_engines({}, ADJUSTED, {"gradient": "backprop"}, {"error_norm": "state"})
def test_a_trace_that_is_not_finite(solver, normal):
    """NaN in the trace alone, which no norm of the state need see, is an error all the same."""

    class Field(Rowwise):
        def trace(self, t: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
            return x.new_full((len(x),), math.nan)

    with pytest.raises(SolveError, match=r"trace.* NaN.* 4 of 4 .*t="):
        Flow(CNF(Field(lambda x: x), solver=solver)).log_prob(normal(4, 2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "rk5"}, "'rk5'.*dopri5.*rk4"),
        ({"gradient": "adjont"}, "'adjont'.*adjoint, seminorm, backprop"),
        ({"error_norm": "max"}, "'max'.*all, state, sample"),
        ({"method": "rk4"}, "'rk4'.*step_size"),
        ({"method": "rk4", "step_size": -0.1}, r"step_size.* -0"),
        ({"step_size": 0.1}, "'dopri5'"),
        ({"rtol": 0.0}, r"rtol.* 0\.0"),
        ({"atol": math.nan}, "atol.* nan"),
        ({"max_steps": 0}, "max_steps.* 0"),
        ({"max_steps": 2.5}, r"max_steps.* 2\.5"),
        ({"first_step": "a"}, "first_step.*direct, torchdiffeq.*'a'"),
        ({"first_step": math.inf}, "first_step.* inf"),
        ({"method": "rk4", "step_size": 0.1, "first_step": 0.1}, "'rk4'.*first_step"),
        ({"tolerance": 1e-3}, "'tolerance'.*method, rtol"),
        ({"engine": "jax"}, "'jax'.*native, torchdiffeq"),
        ({"method": "scipy_solver", "engine": "native"}, "native.*torchdiffeq"),
    ],
)
def test_solvers_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        Solver.of(fields)
    with pytest.raises(ValueError, match=message):
        flows.build("cnf", 2, solver=fields)


class _Plain(torch.nn.Module):
    """A user's field, which has no say in contexts."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return -x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda field: CNF(field, t0=1.0, t1=1.0), r"t1 = 1\.0"),
        (lambda field: CNF(field, train_end_time=1), "train_end_time"),
        (lambda field: MLPField(2, activation="relu"), r"'relu'.*tanh"),
        (lambda field: MLPField(2, time="sin"), r"'sin'.*ignore, concat"),
        (lambda field: MLPField(2, hidden=0, depth=1), r"hidden.* 0"),
    ],
)
def test_cnfs_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make(mlp_field(2))


@pytest.mark.parametrize("field", [lambda t, x: -x, torch.nn.Linear(2, 2), torch.nn.Linear])
def test_a_field_is_refused_at_construction(field):
    """A plain function, whose parameters no flow would find, and a module of x alone."""
    with pytest.raises(TypeError, match=type(field).__name__):
        CNF(field)


@pytest.mark.parametrize("kind", [MLPField, PlanarField, HollowField, PotentialField, _Plain])
def test_a_context_is_never_ignored(kind, normal):
    """A field that takes none refuses one, a field that needs one refuses to do without."""
    x, context, name = normal(3, 2), normal(3, 1), f"{kind.__name__}.*context"
    plain = kind() if kind is _Plain else kind(2)
    with pytest.raises(ValueError, match=name):
        Flow(CNF(plain.double(), trace="loop")).log_prob(x, context)
    if kind not in (_Plain, PotentialField):
        with pytest.raises(ValueError, match=name):
            Flow(CNF(kind(2, context_dim=1).double())).log_prob(x)


@pytest.mark.parametrize("trace", ["loop", "hutchinson", "closed_form"])
def test_a_field_of_another_shape_is_refused(trace, normal):
    class Field(torch.nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return x[:, :1]

        def trace(self, t: Tensor, x: Tensor) -> Tensor:
            return x[:, 0]

    with pytest.raises(ValueError, match=r"Field.* \(3, 2\).* \(3, 1\)"):
        Flow(CNF(Field(), trace=trace)).log_prob(normal(3, 2))


def test_times_that_cannot_be():
    x = torch.zeros(2, 2, dtype=torch.float64)
    t1 = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    flow = Flow(CNF(mlp_field(2), t1=t1))
    for value in (0.0, float("nan")):
        with torch.no_grad():
            t1.fill_(value)
        with pytest.raises(SolveError, match=r"times.* 0"):
            flow.log_prob(x)
