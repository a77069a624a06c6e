"""Every registered flow is a density: Jacobians, inverses, mass, gradients, and its interface."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flows
from flows import Flow
from flows.continuous.trace import STOCHASTIC
from flows.discrete.nflows_compat import ActNorm

SIZES = {"hidden": 8, "depth": 2, "layers": 2}
FURTHER = ({"depth": 1}, {"depth": 3}, {"context_dim": 2})
OWN = {"glow": ({"linear": "naive"},), "cnf": ({"trace": "loop"},)}  # options beside the sizes

Case = tuple[str, dict[str, Any]]
Make = Callable[..., Flow]
Normal = Callable[..., Tensor]
Solve = dict[str, Any]


def _cases() -> Iterator[tuple[str, Case]]:
    """Every member with small sizes, and once with each further size or option that it takes."""
    for name in flows.names():
        member = flows.members[name]
        plain = member.applicable(SIZES)
        yield name, (name, plain)
        for change in (*map(member.applicable, FURTHER), *OWN.get(name, ())):
            if change:
                (option, value) = next(iter(change.items()))
                yield f"{name}-{option}={value}", (name, {**plain, **change})


def _has_ode(flow: nn.Module) -> bool:
    return any(hasattr(module, "counters") for module in flow.modules())


def _over(cases: dict[str, Case]) -> Any:
    return pytest.mark.parametrize(("name", "options"), cases.values(), ids=cases)


CASES = dict(_cases())
MEMBERS = {label: case for label, case in CASES.items() if label == case[0]}
ODE = {label: case for label, case in MEMBERS.items() if _has_ode(flows.build(case[0], 2))}

every_case = _over(CASES)
every_member = _over(MEMBERS)
every_discrete = _over({k: v for k, v in MEMBERS.items() if k not in ODE})
every_ode = _over(ODE)
every_conditional = _over({k: v for k, v in CASES.items() if v[1].get("context_dim")})


def _over_dims(*pairs: Any) -> Any:
    """Cases at dimensions: (dims, cases, dims, cases, ...)."""
    rows = [
        pytest.param(name, options, dim, id=f"{dim}-{label}")
        for dims, cases in zip(pairs[::2], pairs[1::2], strict=True)
        for dim in dims
        for label, (name, options) in cases.items()
    ]
    return pytest.mark.parametrize(("name", "options", "dim"), rows)


def _context(options: dict[str, Any], rows: int, normal: Normal, seed: int = 50) -> Tensor | None:
    width = options.get("context_dim", 0)
    return normal(rows, width, seed=seed) if width else None


def _exact(flow: Flow, solver: Solve) -> Flow:
    """A view whose ODEs are solved so, without noise."""
    noisy = any(getattr(module, "trace", None) in STOCHASTIC for module in flow.modules())
    return flow.using(trace="exact" if noisy else None, solver=solver)


def _jacobians(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian of every row: (N, D, D), by one backward pass a column."""
    x = x.clone().requires_grad_()
    y = function(x)
    rows = [torch.autograd.grad(y[:, k].sum(), x, retain_graph=True)[0] for k in range(y.shape[1])]
    return torch.stack(rows, 1)


# ---- densities --------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shapes_and_dtypes(
    name: str, options: dict[str, Any], dtype: torch.dtype, make_flow: Make, normal: Normal
) -> None:
    """log_prob (N,), to_noise (N, D) and samples (n, D) have the dtype of the parameters."""
    flow = make_flow(name, 3, dtype=dtype, **options)
    context = _context(options, 7, normal)
    context = None if context is None else context.to(dtype)
    x = normal(7, 3, dtype=dtype)
    sample, log_prob = flow.rsample_and_log_prob(7, context)
    for result, shape in (
        (flow.log_prob(x, context), (7,)),
        (flow.to_noise(x, context), (7, 3)),
        (flow.sample(7, context), (7, 3)),
        (sample, (7, 3)),
        (log_prob, (7,)),
        (flow.loss(x, context), ()),
    ):
        assert result.shape == shape
        assert result.dtype == dtype
        assert bool(torch.isfinite(result).all())


@_over_dims([2, 5], CASES, [3], MEMBERS)
def test_ladj_is_that_of_the_jacobian(
    name: str, options: dict[str, Any], dim: int, make_flow: Make, normal: Normal, tight: Solve
) -> None:
    """Both directions return log |det| of their own Jacobian."""
    flow = _exact(make_flow(name, dim, **options), tight)
    context = _context(options, 4, normal)
    tolerance = 1e-7 if _has_ode(flow) else 1e-9
    for direction in (flow.transform.forward, flow.transform.inverse):
        x = normal(4, dim, seed=7)
        jacobians = _jacobians(lambda x, direction=direction: direction(x, context)[0], x)
        reference = torch.linalg.slogdet(jacobians)[1]
        torch.testing.assert_close(
            direction(x, context)[1].detach(), reference, atol=tolerance, rtol=0
        )


@every_case
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("scale", [1.0, 1e3], ids=["centre", "tails"])
def test_round_trips(
    name: str,
    options: dict[str, Any],
    dim: int,
    scale: float,
    make_flow: Make,
    normal: Normal,
    tight: Solve,
) -> None:
    """Each direction undoes the other, and their log-determinants sum to zero."""
    flow = _exact(make_flow(name, dim, **options), tight)
    context = _context(options, 6, normal)
    tolerance = 1e-7 if _has_ode(flow) else 1e-9
    x = normal(6, dim, seed=8) * scale
    with torch.no_grad():
        for there, back in (
            (flow.transform.forward, flow.transform.inverse),
            (flow.transform.inverse, flow.transform.forward),
        ):
            y, ladj = there(x, context)
            again, opposite = back(y, context)
            torch.testing.assert_close(again, x, atol=tolerance * scale, rtol=0)
            torch.testing.assert_close(
                ladj + opposite, torch.zeros(6).double(), atol=tolerance, rtol=0
            )


def _axis(low: float, high: float, points: int) -> tuple[Tensor, float]:
    return torch.linspace(low, high, points, dtype=torch.float64), (high - low) / (points - 1)


@every_case
def test_total_mass_is_one(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """The density integrates to one over the plane (rectangle rule, spectrally accurate here)."""
    solver = {"method": "rk4", "step_size": 0.1}
    flow = _exact(make_flow(name, 2, spread=0.1, **options), solver)
    context = _context(options, 1, normal)
    with torch.no_grad():
        reach = flow.sample(2000, context)
        centre, half = reach.mean(0), 1.8 * (reach - reach.mean(0)).abs().amax(0)
        (a, da), (b, db) = (
            _axis((centre[k] - half[k]).item(), (centre[k] + half[k]).item(), 101) for k in (0, 1)
        )
        mass = flow.log_prob(torch.cartesian_prod(a, b), context).exp().sum().item() * da * db
    assert mass == pytest.approx(1, abs=1e-3)


@every_case
def test_one_dimension_works_or_is_refused(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal, tight: Solve
) -> None:
    """At D = 1 a member is a density of the line, or its ValueError says that it cannot be."""
    try:
        flow = _exact(make_flow(name, 1, **options), tight)
    except ValueError:
        with pytest.raises(ValueError, match="dim=1"):
            make_flow(name, 1, **options)
        return
    context = _context(options, 1, normal)
    x = normal(5, 1)
    z, ladj = flow.transform(x, None if context is None else context.expand(5, -1))
    slopes = _jacobians(lambda x: flow.to_noise(x, context), x)[:, 0, 0]
    torch.testing.assert_close(ladj.detach(), slopes.abs().log(), atol=1e-7, rtol=0)
    with torch.no_grad():
        back = flow.transform.inverse(z, None if context is None else context.expand(5, -1))[0]
        torch.testing.assert_close(back, x, atol=1e-7, rtol=0)
        reach = flow.sample(500, context)
        span = 2 * reach.abs().max().item()
        grid, width = _axis(-span, span, 1001)
        mass = flow.log_prob(grid[:, None], context).exp().sum().item() * width
    assert mass == pytest.approx(1, abs=1e-3)


# ---- gradients --------------------------------------------------------------------------------


@every_case
def test_gradient_of_the_loss(
    name: str,
    options: dict[str, Any],
    make_flow: Make,
    normal: Normal,
    steps: Solve,
    agrees_with_differences: Callable[..., None],
) -> None:
    """The loss reaches every parameter, x and the context, with the right derivative."""
    flow = make_flow(name, 3, **options).using(solver=steps, noise=3)
    x = normal(12, 3, seed=4).requires_grad_()
    context = _context(options, 12, normal)

    def loss() -> Tensor:
        torch.manual_seed(5)  # for members whose loss draws
        return flow.loss(x, context)

    tensors = [*flow.named_parameters(), ("x", x)]
    if context is not None:
        tensors.append(("context", context.requires_grad_()))
    agrees_with_differences(loss, tensors)


@every_case
def test_gradient_through_samples(
    name: str,
    options: dict[str, Any],
    make_flow: Make,
    normal: Normal,
    steps: Solve,
    agrees_with_differences: Callable[..., None],
) -> None:
    """Samples and their log-densities move with the parameters as differences say."""
    flow = make_flow(name, 3, **options).using(solver=steps, noise=3)
    context = _context(options, 6, normal)
    weights, shares = normal(6, 3, seed=5), normal(6, seed=6)

    def objective() -> Tensor:
        torch.manual_seed(5)
        x, log_prob = flow.rsample_and_log_prob(6, context)
        return (x * weights).sum() + (log_prob * shares).sum()

    tensors = [*flow.named_parameters()]
    if context is not None:
        tensors.append(("context", context.requires_grad_()))
    agrees_with_differences(objective, tensors)


@every_case
def test_samples_come_with_their_log_prob(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal, tight: Solve
) -> None:
    """rsample_and_log_prob is what log_prob says of its samples; sample has no graph."""
    flow = _exact(make_flow(name, 3, **options), tight)
    context = _context(options, 16, normal)
    x, log_prob = flow.rsample_and_log_prob(16, context)
    assert x.requires_grad
    assert log_prob.requires_grad
    torch.testing.assert_close(flow.log_prob(x, context), log_prob, atol=1e-7, rtol=0)
    assert not flow.sample(16, context).requires_grad


@every_member
def test_samples_have_the_flows_moments(
    name: str, options: dict[str, Any], make_flow: Make, tight: Solve
) -> None:
    """Noise of samples is standard normal: its mean and covariance within five standard errors."""
    flow = make_flow(name, 2, **options)
    flow = _exact(flow, {"method": "rk4", "step_size": 0.1})
    with torch.no_grad():
        z = flow.to_noise(flow.sample(4000))
    error = 5 / math.sqrt(len(z))
    assert bool((z.mean(0).abs() < error).all())
    assert bool(((z.T.cov() - torch.eye(2).double()).abs() < 1.5 * error).all())


@every_discrete
def test_vmap_of_the_score(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """torch.func maps a discrete member row by row: the score of each equals autograd's."""
    flow = make_flow(name, 3, **options)
    x = normal(5, 3, seed=9).requires_grad_()
    (reference,) = torch.autograd.grad(flow.log_prob(x).sum(), x)
    score = torch.vmap(torch.func.jacrev(lambda row: flow.log_prob(row[None])[0]))(x.detach())
    torch.testing.assert_close(score, reference, atol=1e-10, rtol=0)


# ---- state ------------------------------------------------------------------------------------


@every_member
def test_initialize_standardises(name: str, options: dict[str, Any], normal: Normal) -> None:
    """ActNorms are the identity until ``initialize``, whatever the mode; then they standardise."""
    flow = flows.build(name, 3, **options).double()
    norms = [module for module in flow.modules() if isinstance(module, ActNorm)]
    x = normal(300, 3) * torch.tensor([1e-3, 1.0, 50.0]) + torch.tensor([5.0, 0.0, -9.0])
    view = flow.using(noise=1)
    before = view.train().log_prob(x)
    torch.testing.assert_close(view.eval().log_prob(x), before, atol=0, rtol=0)
    for norm in norms:
        assert not bool(norm.log_scale.any())
        assert not bool(norm.shift.any())
    assert flow.train().initialize(x) is flow

    after = view.train().log_prob(x)
    torch.testing.assert_close(view.eval().log_prob(x), after, atol=0, rtol=0)
    outputs: list[Tensor] = []
    for norm in norms:
        norm.register_forward_hook(lambda *hook: outputs.append(hook[2][0]))
    flow.to_noise(x)
    assert len(outputs) == len(norms)
    for output in outputs:
        torch.testing.assert_close(output.mean(0), torch.zeros(3).double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(output.std(0), torch.ones(3).double(), atol=1e-9, rtol=0)
    if norms:
        assert not torch.allclose(after, before)


@every_case
def test_rows_are_independent(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal, steps: Solve
) -> None:
    """A row's log_prob does not depend on its neighbours: with an adaptive solver nearly so."""
    made = make_flow(name, 3, **options)
    x, context = normal(9, 3, seed=2), _context(options, 9, normal)
    wild = torch.cat([x[:4], 30 * x[4:]])
    for solver, tolerance in ((steps, 1e-11), ({"rtol": 1e-6, "atol": 1e-6}, 1e-4)):
        flow = _exact(made, solver)
        with torch.no_grad():
            together = flow.log_prob(x, context)
            among_others = flow.log_prob(wild, context)
            alone = [
                flow.log_prob(x[[k]], None if context is None else context[[k]]) for k in range(4)
            ]
        torch.testing.assert_close(together[:4], torch.cat(alone), atol=tolerance, rtol=0)
        torch.testing.assert_close(among_others[:4], together[:4], atol=tolerance, rtol=0)
        if not _has_ode(flow):
            break


@every_case
def test_state_dict_round_trip(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """The saved state, loaded strictly into a fresh build, gives the same log_prob."""
    flow = make_flow(name, 3, **options)
    file = io.BytesIO()
    torch.save(flow.state_dict(), file)
    file.seek(0)
    torch.manual_seed(99)
    fresh = flows.build(name, 3, **options).double()
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    x, context = normal(6, 3), _context(options, 6, normal)
    torch.testing.assert_close(
        fresh.using(noise=1).log_prob(x, context),
        flow.using(noise=1).log_prob(x, context),
        atol=0,
        rtol=0,
    )


@every_case
def test_deepcopy_is_apart(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """A deep copy is the same density with parameters of its own."""
    flow = make_flow(name, 3, **options)
    x, context = normal(6, 3), _context(options, 6, normal)
    twin = copy.deepcopy(flow)
    before = flow.using(noise=1).log_prob(x, context).detach()
    torch.testing.assert_close(twin.using(noise=1).log_prob(x, context).detach(), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter += 0.1
    torch.testing.assert_close(flow.using(noise=1).log_prob(x, context).detach(), before)
    assert not torch.allclose(twin.using(noise=1).log_prob(x, context).detach(), before)


@every_member
def test_a_view_shares_every_tensor(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """``using`` makes a view: an edit of a parameter in place is seen by both."""
    flow = make_flow(name, 3, **options)
    view = flow.using(noise=1)
    mine, its = dict(flow.named_parameters()), dict(view.named_parameters())
    assert all(mine[key] is its[key] for key in mine)
    assert all(a is b for a, b in zip(flow.buffers(), view.buffers(), strict=True))
    x = normal(5, 3)
    before = view.log_prob(x).detach()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1
    assert not torch.allclose(view.log_prob(x).detach(), before)


# ---- edges and errors -------------------------------------------------------------------------


@every_case
def test_empty_batch_and_batch_of_one(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """No rows give no densities; one row gives one."""
    flow = make_flow(name, 3, **options)
    for rows in (0, 1):
        context = _context(options, rows, normal)
        x = normal(rows, 3)
        assert flow.log_prob(x, context).shape == (rows,)
        assert flow.to_noise(x, context).shape == (rows, 3)
        assert flow.sample(rows, context).shape == (rows, 3)
        sample, log_prob = flow.rsample_and_log_prob(rows, context)
        assert (sample.shape, log_prob.shape) == ((rows, 3), (rows,))


@every_member
def test_bad_input_is_named(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """Shape, dtype and values that are not finite: what was expected and what was received."""
    flow = make_flow(name, 3, **options)
    x = normal(4, 3)
    with pytest.raises(ValueError, match=r"shape \(N, 3\), got \(4, 2\)"):
        flow.log_prob(x[:, :2])
    with pytest.raises(ValueError, match=r"shape \(N, 3\), got \(3,\)"):
        flow.to_noise(x[0])
    with pytest.raises(TypeError, match=r"float64.*got torch\.float32"):
        flow.log_prob(x.float())
    with pytest.raises(TypeError, match=r"Tensor of shape \(N, 3\), got ndarray"):
        flow.log_prob(x.numpy())  # type: ignore[arg-type]
    for value in (math.nan, math.inf):
        spoiled = x.clone()
        spoiled[1:3, 0] = value
        with pytest.raises(ValueError, match="finite x, got 2 of 4 rows"):
            flow.loss(spoiled)
        with pytest.raises(ValueError, match="finite x, got 2 of 4 rows"):
            flow.initialize(spoiled)
    with pytest.raises(ValueError, match="-1 samples"):
        flow.sample(-1)
    with pytest.raises(ValueError, match=r"takes no context, got one of shape \(4, 2\)"):
        flow.log_prob(x, normal(4, 2))


@every_conditional
def test_bad_context_is_named(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """A context that is missing, of other rows, width or dtype, or not finite."""
    flow = make_flow(name, 3, **options)
    x, context = normal(4, 3), normal(4, 2)
    with pytest.raises(ValueError, match=r"expected context of shape \(N, 2\), got none"):
        flow.log_prob(x)
    with pytest.raises(ValueError, match=r"expected context of shape \(N, 2\), got none"):
        flow.sample(4)
    with pytest.raises(ValueError, match=r"\(1, C\) or \(4, C\), got \(3, 2\)"):
        flow.log_prob(x, context[:3])
    with pytest.raises(ValueError, match=r"\(1, C\) or \(4, C\), got \(2,\)"):
        flow.log_prob(x, context[0])
    with pytest.raises(ValueError, match="width 2, got 3"):
        flow.rsample_and_log_prob(4, normal(4, 3))
    with pytest.raises(TypeError, match=r"context of dtype torch\.float64, got torch\.float32"):
        flow.log_prob(x, context.float())
    with pytest.raises(ValueError, match="finite context, got 4 of 4 rows"):
        flow.log_prob(x, context * math.nan)


@every_conditional
def test_context_matters_and_one_row_serves_all(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """log p(x | c) depends on c, and a context (1, C) is that of every row."""
    flow = make_flow(name, 3, **options).using(noise=1)
    x, context = normal(4, 3), normal(1, 2)
    one = flow.log_prob(x, context)
    torch.testing.assert_close(one, flow.log_prob(x, context.expand(4, -1)))
    assert not torch.allclose(one, flow.log_prob(x, context + 1))
    assert flow.sample(4, context).shape == (4, 3)


@every_discrete
def test_meta_device(name: str, options: dict[str, Any], make_flow: Make) -> None:
    """A discrete member moved to meta tells shapes without values; an ODE's steps need values."""
    flow = make_flow(name, 3, **options).to("meta")
    x = torch.empty(4, 3, dtype=torch.float64, device="meta")
    for mode in (True, False):
        log_prob = flow.train(mode).log_prob(x)
        assert (log_prob.device.type, log_prob.shape) == ("meta", (4,))


@every_ode
def test_log_prob_without_grad_is_the_same(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """no_grad and inference_mode change nothing of an ODE's log_prob but its graph."""
    flow = make_flow(name, 3, **options).using(noise=1)
    x = normal(5, 3)
    reference = flow.log_prob(x)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(flow.log_prob(x), reference.detach(), atol=1e-12, rtol=0)


def test_a_flow_is_made_of_a_module() -> None:
    """A Bijection that is no module is refused, and a Flow without a dimension cannot sample."""
    with pytest.raises(TypeError, match=r"nn\.Module, got int"):
        Flow(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"dimension.*Flow\(transform, dim=D\)"):
        Flow(nn.Identity()).sample(3)
