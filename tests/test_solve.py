"""Solves by two engines: steps, counts, gradients against sensitivities and differences."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flows
from benchmarks.measure.operations import Dispatched
from continuous_fields import OF_AN_MLP, Waves, mlp_field, mlp_flow
from flows import Flow
from flows.continuous import CNF
from flows.continuous.solve import ADAPTIVE, NATIVE
from flows.counting import NFE
from variants import READ

STEPS = {name: {"rtol": 1e-4, "atol": 1e-5} for name in ADAPTIVE}
STEPS["adaptive_heun"] = {"rtol": 1e-3, "atol": 1e-4}  # of order 2, by some steps and not hundreds
OPTIONS = {name: {"method": name, **STEPS.get(name, {"step_size": 0.3})} for name in NATIVE}


def solved(
    field: nn.Module, x: Tensor, context: Tensor | None, inverse: bool, solver: Any, traced: bool
) -> tuple[list[Tensor], NFE]:
    """z, ladj and gradients of x, context, both times and every parameter; and the counts."""
    x = x.clone().requires_grad_()
    times = [torch.tensor(t, dtype=x.dtype, requires_grad=True) for t in (0.1, 0.9)]
    beside = [] if context is None else [context.clone().requires_grad_()]
    cnf = CNF(field, solver=solver, t0=times[0], t1=times[1])
    with flows.count_nfe(cnf) as nfe:
        if traced:
            z, ladj = (cnf.inverse if inverse else cnf)(x, *beside)
        else:
            z = (cnf.to_data if inverse else cnf.to_noise)(x, *beside)
            ladj = torch.zeros_like(z[:, 0])
        weights = torch.linspace(-1, 2, z.numel(), dtype=x.dtype).view_as(z)
        loss = (z * weights).sum() + (ladj * weights[:, 0]).square().sum()
        gradients = torch.autograd.grad(loss, [x, *times, *beside, *field.parameters()])
    return [z.detach(), ladj.detach(), *gradients], nfe


def compared(*problem: Any, solver: dict[str, Any], traced: bool, rtol: float) -> NFE:
    """Solve a problem of `solved` by both engines: equal counts, which are returned, and values."""
    ours, count = solved(*problem, {**solver, "engine": "native"}, traced)
    theirs, other = solved(*problem, {**solver, "engine": "torchdiffeq"}, traced)
    assert count.solves == other.solves
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol / 10)
    return count


@pytest.mark.parametrize("method", NATIVE)
@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
def test_equal_steps(method, gradient, normal):
    field, x, context = mlp_field(3, context_dim=2), normal(5, 3), normal(5, 2)
    rules = ("direct", "torchdiffeq", 0.05) if method in ADAPTIVE else (None,)
    for rule in rules[:1] if gradient == "seminorm" else rules:
        for inverse, traced in ((False, True), (True, True), (True, False)):
            solver = {**OPTIONS[method], "gradient": gradient, "first_step": rule}
            compared(field, x, context, inverse, solver=solver, traced=traced, rtol=1e-9)


@pytest.mark.parametrize("norm", ["all", "state", "sample"])
@pytest.mark.parametrize("gradient", ["adjoint", "seminorm"])
@pytest.mark.parametrize("traced", [True, False])
def test_equal_steps_by_every_norm(norm, gradient, traced, normal):
    """Over many steps, some of them rejected, in a field that is a user's own."""
    field, x = Waves(4), 3 * normal(7, 4)
    with torch.no_grad():
        field.b *= 6
    solver = {"rtol": 1e-6, "atol": 1e-7, "error_norm": norm, "gradient": gradient}
    count = compared(field, x, None, False, solver=solver, traced=traced, rtol=1e-8)
    assert count.accepted > 5
    assert count.rejected > 0


@pytest.mark.parametrize("layers", [1, 3])
def test_a_step_reads_one_number(layers, make_flow, normal):
    """The ratio of its error; neither checks nor times read any."""
    flow, x = make_flow("cnf", 3, hidden=8, layers=layers, spread=0.5), normal(9, 3)
    for grad in (False, True):
        with torch.set_grad_enabled(grad), flows.count_nfe(flow) as nfe, Dispatched() as mode:
            flow.log_prob(x)
        assert 0 < mode.counts[READ] <= nfe.accepted + nfe.rejected


@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
def test_a_graph_goes_back_twice(gradient, normal):
    flow, x = mlp_flow(2, solver={"gradient": gradient}), normal(4, 2)
    with flows.count_nfe(flow) as nfe:
        loss = flow.loss(x)
        first = torch.autograd.grad(loss, list(flow.parameters()), retain_graph=True)
        backward = nfe.backward
        second = torch.autograd.grad(loss, list(flow.parameters()))
    assert nfe.backward == 2 * backward
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_second_derivative_of_an_adjoint_is_refused(normal):
    flow: Flow = mlp_flow(2)
    x = normal(4, 2).requires_grad_()
    (first,) = torch.autograd.grad(flow.log_prob(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|not have been used"):
        torch.autograd.grad(first.square().sum(), x)


STAGES = {"dopri5": 6, "dopri8": 13, "bosh3": 3, "fehlberg2": 2, "adaptive_heun": 1}


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
@pytest.mark.parametrize("first_step", ["torchdiffeq", "direct", None, 0.5])
@pytest.mark.parametrize("method", ADAPTIVE)
def test_nfe_of_adaptive_steps(method, first_step, gradient, make_flow, normal):
    """1 + stages (accepted + rejected), and 1 for torchdiffeq's first step; adjoints the same."""
    layers, stages, start = 2, STAGES[method], 2 if first_step == "torchdiffeq" else 1
    solver = {**OPTIONS[method], "gradient": gradient, "first_step": first_step}
    flow = make_flow("cnf", 3, hidden=8, layers=layers, spread=0.5).using(solver=solver)
    with flows.count_nfe(flow) as nfe:
        loss = flow.loss(normal(8, 3))
        forward = nfe.forward
        assert forward == start * layers + stages * (nfe.accepted + nfe.rejected)
        assert nfe.backward == 0
        accepted = nfe.accepted
        loss.backward()
    assert (nfe.forward, nfe.accepted) == (forward, accepted)
    assert len(nfe.solves) == layers
    for solve in nfe.solves:
        assert solve.forward == start + stages * (solve.accepted + solve.rejected)
        back = solve.accepted_backward + solve.rejected_backward
        assert solve.backward == (0 if gradient == "backprop" else start + stages * back)
        assert (back > 0) == (gradient != "backprop")


@pytest.mark.parametrize(
    ("method", "stages"), [("euler", 1), ("midpoint", 2), ("heun2", 2), ("heun3", 3), ("rk4", 4)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nfe_of_fixed_steps(method, stages, dtype, make_flow):
    """Stages times steps of at most the step size: rounding adds no step and no error."""
    cuts = [(layers, steps, 1 / (layers * steps)) for layers, steps in ((1, 7), (3, 49), (5, 2))]
    cuts += [(1, 4, 0.3), (1, 2, 0.5), (1, 2, 0.51), (1, 1, 1.0), (1, 1, 5.0)]
    for layers, steps, step_size in cuts:
        solver = {"method": method, "step_size": step_size}
        flow = make_flow("cnf", 1, hidden=2, depth=1, layers=layers, dtype=dtype)
        flow = flow.using(solver=solver)
        for run in (flow.transform.forward, flow.transform.inverse):
            with flows.count_nfe(flow) as nfe:
                run(torch.ones(1, 1, dtype=dtype))
            assert nfe.forward == stages * layers * steps
            assert (nfe.accepted, nfe.rejected) == (0, 0)


@pytest.mark.parametrize("trace", OF_AN_MLP)
def test_a_count_is_field_and_trace_together(trace, normal):
    """Whatever the trace needs, an evaluation counts once; a nested counter sees its block."""
    flow = mlp_flow(3, trace=trace, solver={"method": "euler", "step_size": 0.25})
    with flows.count_nfe(flow) as outer:
        flow.log_prob(normal(3, 3))
        with flows.count_nfe(flow) as inner:
            flow.sample(2)
    flow.log_prob(normal(3, 3))
    assert (outer.forward, inner.forward) == (8, 4)
    assert flow.transform.counters == []


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "backprop"])
@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_gradient_of_the_end_time(gradient, method, normal):
    """d log p / dt1 and / dt0 of tensors, and of the parameter of a trained end, by differences."""
    steps = {"step_size": 0.05} if method == "rk4" else {"rtol": 1e-9, "atol": 1e-9}
    solver, x = {"method": method, "gradient": gradient, **steps}, normal(3, 2)
    t0, t1 = (torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (0.1, 0.8))
    cnf = CNF(Waves(2), solver=solver, t1=0.49, train_end_time=True).double()
    assert cnf.t1.item() == pytest.approx(0.49)

    def between(t0: Tensor, t1: Tensor) -> Tensor:
        return Flow(CNF(cnf.field, solver=solver, t0=t0, t1=t1)).log_prob(x).mean()

    def trained(end: Tensor) -> Tensor:
        return Flow(cnf).log_prob(x).mean()

    for function, tensors in ((between, (t0, t1)), (trained, (cnf.sqrt_end_time,))):
        assert torch.autograd.gradcheck(function, tensors, eps=1e-4, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("trace", OF_AN_MLP)
def test_modes_without_grad(trace, normal):
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
    assert not flow.requires_grad_(False).log_prob(x).requires_grad
