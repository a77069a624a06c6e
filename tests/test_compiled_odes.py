"""Compiled steps of ODE flows: equal values, gradients and counts, one function for many solves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import flows
from continuous_fields import OF_AN_MLP, Waves, mlp_field, mlp_flow
from flows import Flow
from flows.continuous import CNF
from flows.counting import NFE
from member_marks import CONDITIONAL, MEMBERS, every_continuous

Make = Callable[..., Flow]
Normal = Callable[..., Tensor]
QUICK = {"method": "adaptive_heun", "rtol": 1e-2, "atol": 1e-2}  # one stage, so quick to compile
BACKPROP = {**QUICK, "gradient": "backprop"}
STEPS = {"method": "midpoint", "step_size": 0.3, "gradient": "backprop"}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Let torch forget what it compiled."""
    yield
    torch.compiler.reset()


def _values(flow: Flow, x: Tensor, context: Tensor | None) -> tuple[list[Tensor], NFE]:
    """log_prob, samples, the loss and its gradients; and the counts."""
    x = x.clone().requires_grad_()
    context = None if context is None else context.clone().requires_grad_()
    with flows.count_nfe(flow) as nfe:
        with torch.no_grad():
            log_prob = flow.log_prob(x, context)
        torch.manual_seed(3)
        sample = flow.sample(4, None if context is None else context[:1])
        loss = flow.loss(x, context)
        inputs = [x, *(() if context is None else [context])]
        inputs += [p for p in flow.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, inputs, materialize_grads=True)
    return [log_prob, sample, loss.detach(), *gradients], nfe


def _assert_equal(flow: Flow, x: Tensor, context: Tensor | None = None, **options: Any) -> None:
    """The view of a flow gives what it gives, to 1e-9, by as many evaluations."""
    view = flow.compiled(**options)
    (ours, count), (theirs, other) = (_values(side, x, context) for side in (flow, view))
    torch.testing.assert_close(theirs, ours, atol=1e-9, rtol=1e-9)
    assert count.solves == other.solves


def test_steps_equal_those_of_the_flow(make_flow: Make, normal: Normal) -> None:
    """By the adjoint, and through fixed steps; `test_every_trace` goes through adaptive ones."""
    _assert_steps_equal("cnf", MEMBERS["cnf"], make_flow, normal)


@pytest.mark.slow
@pytest.mark.inductor
@every_continuous
def test_steps_equal_those_of_every_flow(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """Every family, by its own loss."""
    _assert_steps_equal(name, options, make_flow, normal)


def _assert_steps_equal(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    for solver in ({**QUICK, "gradient": "adjoint"}, STEPS):
        flow = make_flow(name, 3, **options).using(solver=solver, noise=0)
        _assert_equal(flow, normal(5, 3), backend="aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("trace", [name for name in OF_AN_MLP if name != "jacobian"])
def test_every_trace(trace: str, normal: Normal) -> None:
    """All estimators, of a field with a context, in float64."""
    flow = mlp_flow(3, trace=trace, solver=BACKPROP, **CONDITIONAL).using(noise=0)
    _assert_equal(flow, normal(5, 3), normal(5, 2), backend="aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gradient", "trace"),
    [("adjoint", "closed_form"), ("seminorm", "hutchinson"), ("adjoint", "loop")],
)
def test_the_adjoint(gradient: str, trace: str, normal: Normal) -> None:
    """Its steps, with a context and an end time that is trained, of a field with frozen weights."""
    field = mlp_field(3, context_dim=2)
    field.layers[0].requires_grad_(False)
    solver = {**QUICK, "gradient": gradient}
    flow = Flow(CNF(field, trace=trace, solver=solver, train_end_time=True).double(), 3)
    _assert_equal(flow.using(noise=0), normal(5, 3), normal(5, 2), backend="aot_eager")


def test_a_field_of_ones_own(normal: Normal) -> None:
    """Without a closed form; with an end time that is trained; in both directions."""
    field = Waves(3)
    solver = {**BACKPROP, "error_norm": "sample"}
    flow = Flow(CNF(field, trace="loop", solver=solver, train_end_time=True).double(), 3)
    _assert_equal(flow, normal(5, 3), backend="aot_eager")


def test_inductor(make_flow: Make, normal: Normal) -> None:
    """By the default backend."""
    flow = make_flow("cnf", 3, hidden=8, spread=0.3).using(solver=BACKPROP)
    _assert_equal(flow, normal(5, 3))


@pytest.mark.slow
@pytest.mark.inductor
@every_continuous
def test_inductor_by_every_family(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """By the default backend."""
    _assert_equal(make_flow(name, 3, **options).using(solver=BACKPROP, noise=0), normal(5, 3))


@pytest.mark.slow
def test_one_function_for_all_steps(make_flow: Make, normal: Normal) -> None:
    """Of any time, length, piece and solve, and one for all first evaluations.

    As many more for gradients, and for other batch sizes.
    """
    flow = make_flow("cnf", 3, hidden=6, layers=3, spread=0.8)
    view = flow.using(solver={**BACKPROP, "rtol": 1e-4}).compiled(backend="aot_eager")

    def versions() -> int:
        count: int = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        return count

    torch._dynamo.utils.counters.clear()
    with flows.count_nfe(view) as nfe:
        for seed in range(3):
            with torch.no_grad():
                view.log_prob(normal(6, 3, seed=seed))
    assert nfe.accepted > 20
    assert versions() == 2
    for seed in range(3):
        view.loss(normal(6, 3, seed=seed)).backward()
    assert versions() == 4
    for rows in (2, 3, 5, 9):
        view.loss(normal(rows, 3)).backward()
    assert versions() == 6
    view.log_prob(normal(1, 3))


def test_what_a_view_lacks_is_named(normal: Normal) -> None:
    """A second derivative through compiled steps, and steps that are torchdiffeq's."""
    view = mlp_flow(2, solver=BACKPROP).compiled(backend="aot_eager")
    x = normal(4, 2).requires_grad_()
    with pytest.raises(RuntimeError, match=r"first derivatives.*the flow itself"):
        torch.autograd.grad(view.loss(x), x, create_graph=True)
    for solver in ({"engine": "torchdiffeq"}, {"method": "scipy_solver"}):
        with pytest.raises(ValueError, match=r"torchdiffeq.*the flow itself"):
            view.using(solver=solver).log_prob(x)


def test_failures_keep_their_types(normal: Normal) -> None:
    """A field that is not finite, and a limit of steps."""
    from continuous_fields import Rowwise
    from flows.continuous import SolveError

    for function, solver in (
        (lambda x: x * torch.nan, {}),
        (lambda x: torch.sin(200 * x), {"max_steps": 12}),
    ):
        flow = Flow(CNF(Rowwise(function), trace="loop", solver=solver), 2)
        with torch.no_grad(), pytest.raises(SolveError, match="t="):
            flow.compiled(backend="aot_eager").log_prob(normal(4, 2))
