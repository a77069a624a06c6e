"""Second derivatives and low precision of every registered flow, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nflows.transforms import IdentityTransform
from torch import Tensor, nn

import flows
from flows import Flow
from flows.continuous import CNF
from flows.discrete.linear import LINEAR
from flows.linalg import inv, logabsdet
from flows.preprocessing import Whitening

SIZES = {"hidden": 4, "depth": 2, "layers": 1}
STEPS = {"method": "rk4", "step_size": 1.0, "gradient": "backprop"}
DIRECTIONS = ("forward", "inverse")

Make = Callable[..., Flow]
Normal = Callable[..., Tensor]


def _smooth(name: str, make: Make) -> Flow:
    """The flow with ODEs solved by differentiable steps; skip one that has no such steps."""
    member = flows.members[name]
    options: dict[str, Any] = member.applicable(SIZES)
    if "solver" in member.defaults:
        options["solver"] = STEPS
    flow = make(name, 2, **options).using(noise=0)
    if _tolerance(flow) > 0:
        pytest.skip("its ODE is differentiated by an adjoint, which has no second derivative")
    return flow


def _tolerance(flow: Flow) -> float:
    """The largest tolerance of its ODEs; 0 at fixed steps and where there is none."""
    return max(getattr(module, "tolerance", 0.0) for module in flow.modules())


@pytest.mark.parametrize("name", flows.own())
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_second_derivatives_agree_with_differences(
    name: str, direction: str, make_flow: Make, normal: Normal
) -> None:
    """Of the image and of the log-determinant, in x and in all parameters."""
    flow = _smooth(name, make_flow)

    class Map(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = flow

        def forward(self, x: Tensor) -> Any:
            return getattr(self.flow.transform, direction)(x)

    module = Map()
    names = [key for key, _ in module.named_parameters()]

    def evaluated(x: Tensor, *parameters: Tensor) -> Any:
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    x = normal(3, 2).requires_grad_()
    values = [p.detach().clone().requires_grad_() for p in module.parameters()]
    assert torch.autograd.gradgradcheck(evaluated, (x, *values), fast_mode=True)


@pytest.mark.parametrize("name", flows.own())
def test_a_flow_of_bfloat16_computes_or_is_refused(name: str, make_flow: Make) -> None:
    """log_prob and samples are finite and near float32's, else ValueError names the dtype."""
    member = flows.members[name]
    options = member.applicable({**SIZES, "layers": 2})
    if "solver" in member.defaults:
        options["solver"] = {"method": "rk4", "step_size": 0.25}
    flow = make_flow(name, 3, spread=0.05, dtype=torch.float32, **options)
    low = make_flow(name, 3, spread=0.05, dtype=torch.bfloat16, **options)
    _compare(flow, low)


@pytest.mark.parametrize("linear", LINEAR)
def test_every_linear_layer_computes_in_bfloat16(linear: str, make_flow: Make) -> None:
    """Layers factorise or solve, which LAPACK does in float32 and float64 alone."""
    options = {**SIZES, "linear": linear, "spread": 0.05}
    _compare(
        make_flow("glow", 3, dtype=torch.float32, **options),
        make_flow("glow", 3, dtype=torch.bfloat16, **options),
    )


def _compare(flow: Flow, low: Flow) -> None:
    """A rounding of bfloat16 is 2⁻⁸: a few dozen of them, of entries near one, are allowed."""
    x = torch.randn(50, 3).bfloat16()
    if _tolerance(flow) > 0:
        with pytest.raises(ValueError, match="bfloat16"):
            low.log_prob(x)
        return
    log_prob = low.using(noise=0).log_prob(x)
    assert log_prob.dtype == torch.bfloat16
    reference = flow.using(noise=0).log_prob(x.float())
    assert (log_prob.float() - reference).abs().mean() < 0.2
    sample, density = low.rsample_and_log_prob(20)
    assert sample.dtype == density.dtype == torch.bfloat16
    assert bool(torch.isfinite(sample).all())
    low.loss(x).backward()
    (sample.sum() + density.sum()).backward()
    gradients = [p.grad for p in low.parameters() if p.grad is not None]
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_factorisations_of_low_precision_round_those_of_float32(dtype: torch.dtype) -> None:
    """Inverse, log-determinant and whitening of matrices that the dtype holds exactly."""
    a = (torch.randn(5, 4, 4) + 4 * torch.eye(4)).to(dtype)
    assert torch.equal(inv(a), inv(a.float()).to(dtype))
    assert torch.equal(logabsdet(a), logabsdet(a.float()).to(dtype))
    x = torch.randn(30, 3)
    low = Whitening.fit(x).to(dtype)
    torch.testing.assert_close(
        low(x.to(dtype))[0].float(), Whitening.fit(x)(x)[0], atol=0.1, rtol=0
    )


@pytest.mark.parametrize("field", [lambda t, x: -x, nn.Linear(2, 2), nn.Linear])
def test_a_field_is_refused_at_construction(field: Any) -> None:
    """A plain function, whose parameters no flow would find, and a module of x alone."""
    with pytest.raises(TypeError, match=type(field).__name__):
        CNF(field)


@pytest.mark.parametrize("name", flows.own())
def test_views_refuse_unknown_names(name: str) -> None:
    """An unknown trace or solver is refused with the choices, whether or not there is an ODE."""
    flow = flows.build(name, 2)
    for option in ("trace", "solver"):
        with pytest.raises(ValueError, match="'anything'"):
            flow.using(**{option: "anything"})


@pytest.mark.parametrize(
    "name", [n for n in flows.own() if flows.members.module_of(n).startswith("flows.discrete")]
)
def test_a_view_of_a_flow_without_an_ode_computes_the_same(
    name: str, make_flow: Make, normal: Normal
) -> None:
    """A known trace or solver changes nothing of it."""
    flow, x = make_flow(name, 2, **flows.members[name].applicable(SIZES)), normal(4, 2)
    view = flow.using(trace={"estimator": "hutchinson", "probes": 3}, solver="bosh3", noise=1)
    assert torch.equal(view.log_prob(x), flow.log_prob(x))


def test_the_check_of_input_breaks_no_graph(normal: Normal) -> None:
    """torch.compile meets no look at a value: what is not finite comes out as NaN."""
    flow, x = Flow(IdentityTransform(), 2), normal(4, 2)
    compiled = torch.compile(flow.log_prob, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), flow.log_prob(x))
    assert bool(compiled(torch.full_like(x, torch.nan)).isnan().all())
