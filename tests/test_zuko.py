"""The adapter of zuko: its flows keep density, gradient and dtype behind our interface."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flows
from flows.adapters import zuko as adapter
from flows.continuous import Solver

NEEDS = "the adapter of zuko is tested against the package itself"
zuko = pytest.importorskip("zuko", reason=NEEDS)

NAMES = [name for name in flows.names() if flows.members.module_of(name) == adapter.__name__]
ODES = [name for name in NAMES if "exact" in flows.members[name].defaults]
DIM = 3
SMALL = {"hidden": 8, "depth": 2, "layers": 2}
Make = Callable[..., flows.Flow]
Normal = Callable[..., Tensor]


def sizes(name: str, **more: Any) -> dict[str, Any]:
    return flows.members[name].applicable({**SMALL, **more})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("context_dim", [0, 2])
def test_log_prob_is_zukos_own(
    make_flow: Make, normal: Normal, name: str, context_dim: int
) -> None:
    """In float64, of rows and of samples, with and without a context."""
    tight = {"atol": 1e-9, "rtol": 1e-9} if name in ODES else {}
    flow = make_flow(name, DIM, **sizes(name, context_dim=context_dim), **tight)
    context = normal(6, context_dim, seed=3) if context_dim else None
    theirs = flow.transform.flow(context)
    x = normal(6, DIM, seed=4)
    assert torch.allclose(flow.log_prob(x, context), theirs.log_prob(x), rtol=0, atol=1e-12)
    samples, log_prob = flow.rsample_and_log_prob(6, context)
    assert torch.allclose(log_prob, theirs.log_prob(samples), rtol=0, atol=1e-5 if tight else 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_members_are_made_as_zuko_makes_them(name: str) -> None:
    """From one seed, the parameters of the family's own constructor, one for one."""
    classes = {kind.lower(): value for kind, value in vars(zuko.flows).items()}
    options = sizes(name)
    theirs: dict[str, Any] = {"hidden_features": [options["hidden"]] * options["depth"]}
    theirs |= {"transforms": options["layers"]} if "layers" in options else {}
    torch.manual_seed(5)
    flow = flows.build(name, DIM, **options)
    torch.manual_seed(5)
    own = classes[name.removeprefix("zuko_")](DIM, **theirs)
    for mine, other in zip(flow.parameters(), own.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(make_flow: Make, normal: Normal, name: str, dtype: torch.dtype) -> None:
    """By every output."""
    flow = make_flow(name, DIM, dtype=dtype, **sizes(name))
    x = normal(4, DIM, dtype=dtype)
    outputs = (flow.log_prob(x), flow.to_noise(x), flow.sample(2), *flow.rsample_and_log_prob(2))
    assert {output.dtype for output in outputs} == {dtype}


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter_in_either_mode(
    make_flow: Make, normal: Normal, name: str
) -> None:
    """``eval()`` changes neither the density nor its gradient."""
    flow, x = make_flow(name, DIM, context_dim=2, **sizes(name)), normal(5, DIM)
    context, results = normal(5, 2, seed=2), []
    for module in (flow.train(), flow.eval()):
        module.zero_grad()
        loss = module.loss(x, context)
        loss.backward()
        gradients = {n: p.grad for n, p in module.named_parameters()}
        assert all(g is not None and bool(g.abs().max() > 0) for g in gradients.values())
        results.append((loss, gradients))
    (loss, gradients), (other, others) = results
    assert torch.equal(loss, other)
    for key, gradient in gradients.items():
        assert torch.equal(gradient, others[key]), key  # type: ignore[arg-type]  # None would fail


def test_a_flow_given_in_eval_mode_has_gradients() -> None:
    """Whatever mode the zuko flow was in."""
    flow = adapter.from_zuko(zuko.flows.CNF(DIM, hidden_features=[8]).eval(), DIM)
    flow.loss(torch.randn(4, DIM)).backward()
    assert all(p.grad is not None for p in flow.parameters())


def test_any_zuko_flow_becomes_a_flow(normal: Normal) -> None:
    """Other families, and transforms composed by hand, an ODE among them."""
    base = zuko.flows.MAF(DIM).base
    mixed = [
        zuko.flows.MaskedAutoregressiveTransform(DIM, hidden_features=[8]),
        zuko.flows.continuous.FFJTransform(DIM, hidden_features=[8]),
    ]
    for theirs in (zuko.flows.NICE(DIM), zuko.flows.SOSPF(DIM), zuko.lazy.Flow(mixed, base)):
        flow, x = adapter.from_zuko(theirs.double(), DIM), normal(4, DIM)
        assert torch.allclose(flow.log_prob(x), theirs().log_prob(x), rtol=0, atol=1e-12)
        assert next(flow.parameters()) is next(theirs.parameters())


def test_a_conditional_flow_is_told_its_context() -> None:
    """The context's width is checked as for every other flow."""
    flow = adapter.from_zuko(zuko.flows.MAF(DIM, 2), DIM, 2)
    assert flow.log_prob(torch.zeros(4, DIM), torch.zeros(1, 2)).shape == (4,)
    with pytest.raises(ValueError, match=r"context.* 2.* 5"):
        flow.log_prob(torch.zeros(4, DIM), torch.zeros(4, 5))


def test_any_noise_of_a_zuko_flow_is_the_base(normal: Normal) -> None:
    """Another mean, noise that trains, uniform noise: with its gradient, its copy and its dtype."""
    shifted, trained = zuko.flows.MAF(DIM), zuko.flows.MAF(DIM)
    shifted.base.loc += 1
    trains, of = zuko.lazy.UnconditionalDistribution, zuko.distributions.DiagNormal
    trained.base = trains(of, loc=torch.zeros(DIM), scale=torch.ones(DIM))
    x = normal(5, DIM).clamp(-3, 3)
    for theirs in (shifted, trained, zuko.flows.NCSF(DIM)):
        flow = copy.deepcopy(adapter.from_zuko(theirs, DIM)).double()
        torch.testing.assert_close(flow.log_prob(x), flow.transform.flow().log_prob(x))
        assert flow.sample(3).dtype == torch.float64
        assert len([*flow.parameters()]) == len([*theirs.parameters()])
    flow = adapter.from_zuko(trained, DIM)
    flow.loss(x.float()).backward()
    assert all(p.grad is not None for p in trained.base.parameters())


def test_what_is_no_zuko_flow_of_these_dimensions_is_refused() -> None:
    """Another type, and another dimension; each in one line."""
    with pytest.raises(TypeError, match="Linear"):
        adapter.from_zuko(nn.Linear(2, 2), 2)
    for dim, context_dim in ((DIM + 1, 0), (DIM, 2)):
        with pytest.raises(ValueError, match=f"dim={dim}.*context_dim={context_dim}"):
            adapter.from_zuko(zuko.flows.MAF(DIM), dim, context_dim)
    with pytest.raises(ValueError, match="dim=1"):
        flows.build("zuko_realnvp", 1)


@pytest.mark.parametrize("name", ODES)
def test_evaluations_are_counted_forward_and_backward(
    make_flow: Make, normal: Normal, name: str
) -> None:
    """Each call of the network once, also on a view; seven a step of Dormand and Prince."""
    flow, x = make_flow(name, DIM, **sizes(name)), normal(5, DIM)
    for view in (flow, flow.using(noise=0), copy.deepcopy(flow)):
        calls: list[int] = []
        (ode,) = view.transform.odes
        handle = ode.ode.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        with flows.count_nfe(view) as nfe:
            loss = view.loss(x)
            assert nfe.forward == len(calls)
            assert nfe.backward == 0
            loss.backward()
        handle.remove()
        assert nfe.forward + nfe.backward == len(calls)
        assert nfe.forward % 7 == 0
        assert nfe.backward > 0


@pytest.mark.parametrize("name", ODES)
def test_a_tighter_tolerance_has_a_smaller_error(
    make_flow: Make, normal: Normal, name: str
) -> None:
    """``using(solver=)`` takes tolerances that hold for the log-determinant too."""
    flow, x, errors = make_flow(name, DIM, **sizes(name)), normal(5, DIM), []
    exact = flow.using(solver=Solver(rtol=1e-9, atol=1e-9)).log_prob(x)
    for tolerance in (1e-2, 1e-4, 1e-6):
        view = flow.using(solver={"rtol": tolerance, "atol": tolerance})
        assert view.transform.tolerance == pytest.approx(tolerance)
        errors.append((view.log_prob(x) - exact).abs().max().item())
        assert errors[-1] < 100 * tolerance  # ELU has a kink in its slope, and so in the trace
    assert errors[-1] < errors[0]
    assert flow.transform.tolerance == pytest.approx(1e-4)  # of its own atol, 1e-6


@pytest.mark.parametrize("name", ODES)
def test_the_estimate_is_unbiased_and_its_noise_can_be_frozen(
    make_flow: Make, normal: Normal, name: str
) -> None:
    """The mean over calls is the exact density; frozen, equal calls are equal."""
    flow = make_flow(name, DIM, exact=False, spread=0.5, **sizes(name))
    x, stream = normal(2, DIM), torch.get_rng_state()
    with torch.no_grad():
        draws = torch.stack([flow.log_prob(x) for _ in range(64)])
        exact = flow.using(trace="exact").log_prob(x)
    assert bool((draws.std(0) > 0).all())
    assert bool(((draws.mean(0) - exact).abs() < 4 * draws.std(0) / math.sqrt(64)).all())
    frozen = flow.using(noise=3)
    assert torch.equal(frozen.log_prob(x), frozen.log_prob(x))
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize("name", ODES)
def test_a_solve_that_would_not_end_is_stopped(
    monkeypatch: pytest.MonkeyPatch, make_flow: Make, normal: Normal, name: str
) -> None:
    """NaN in the parameters, and a tolerance that takes too many evaluations."""
    flow, x = make_flow(name, DIM, **sizes(name)), normal(5, DIM)
    broken = copy.deepcopy(flow)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(RuntimeError, match="NaN"):
        broken.log_prob(x)
    monkeypatch.setattr(adapter, "LIMIT", 50)
    with pytest.raises(RuntimeError, match=" 50 "):
        flow.using(solver={"rtol": 1e-10, "atol": 1e-10}).log_prob(x)


@pytest.mark.parametrize("name", ODES)
def test_what_zuko_cannot_do_is_refused(name: str) -> None:
    """With the choices; an empty batch is none of it."""
    flow = flows.build(name, DIM, **sizes(name))
    with pytest.raises(ValueError, match=r"'rk4'.*dopri5"):
        flow.using(solver={"method": "rk4", "step_size": 0.1})
    with pytest.raises(ValueError, match=r"'loop'.*exact, hutchinson"):
        flow.using(trace="loop")
    assert flow.log_prob(torch.zeros(0, DIM)).shape == (0,)
    assert flow.sample(0).shape == (0, DIM)
