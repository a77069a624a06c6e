"""What every flow offers beside what the conformance kit judges: views, errors, torch.func."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nflows.transforms import CompositeTransform, IdentityTransform, InverseTransform
from torch import Tensor, nn

import flows
from flows import Flow
from flows.discrete.nflows_compat import ActNorm

SIZES = {"hidden": 8, "depth": 2, "layers": 2}
CONDITIONAL = {"context_dim": 2}

Make = Callable[..., Flow]
Normal = Callable[..., Tensor]


def _over(cases: dict[str, dict[str, Any]]) -> Any:
    return pytest.mark.parametrize(("name", "options"), cases.items(), ids=cases)


MEMBERS = {name: flows.members[name].applicable(SIZES) for name in flows.names()}


def _of(package: str) -> dict[str, dict[str, Any]]:
    return {
        n: sizes for n, sizes in MEMBERS.items() if flows.members.module_of(n).startswith(package)
    }


every_member = _over(MEMBERS)
every_continuous = _over(_of("flows.continuous"))
every_discrete = _over(_of("flows.discrete"))
every_conditional = _over(
    {
        name: {**sizes, **CONDITIONAL}
        for name, sizes in MEMBERS.items()
        if flows.members[name].applicable(CONDITIONAL)
    }
)


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


@every_member
def test_bad_input_is_named(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """Shape, dtype and values that are not finite: what was expected and what was received."""
    flow = make_flow(name, 3, **options)
    x = normal(4, 3)
    with pytest.raises(ValueError, match=r"\(N, 3\).*\(4, 2\)"):
        flow.log_prob(x[:, :2])
    with pytest.raises(ValueError, match=r"\(N, 3\).*\(3,\)"):
        flow.to_noise(x[0])
    with pytest.raises(TypeError, match=r"float64.*torch\.float32"):
        flow.log_prob(x.float())
    with pytest.raises(TypeError, match=r"\(N, 3\).*ndarray"):
        flow.log_prob(x.numpy())  # type: ignore[arg-type]  # the error is the point
    for value in (math.nan, math.inf):
        spoiled = x.clone()
        spoiled[1:3, 0] = value
        with pytest.raises(ValueError, match=r"x.* 2 of 4 "):
            flow.loss(spoiled)
        with pytest.raises(ValueError, match=r"x.* 2 of 4 "):
            flow.initialize(spoiled)
    with pytest.raises(ValueError, match="-1"):
        flow.sample(-1)
    with pytest.raises(ValueError, match=r"context.*\(4, 2\)"):
        flow.log_prob(x, normal(4, 2))


@every_conditional
def test_bad_context_is_named(
    name: str, options: dict[str, Any], make_flow: Make, normal: Normal
) -> None:
    """A context that is missing, of other rows, width or dtype, or not finite."""
    flow = make_flow(name, 3, **options)
    x, context = normal(4, 3), normal(4, 2)
    with pytest.raises(ValueError, match=r"context.*\(N, 2\)"):
        flow.log_prob(x)
    with pytest.raises(ValueError, match=r"context.*\(N, 2\)"):
        flow.sample(4)
    with pytest.raises(ValueError, match=r"\(4, C\).*\(3, 2\)"):
        flow.log_prob(x, context[:3])
    with pytest.raises(ValueError, match=r"\(4, C\).*\(2,\)"):
        flow.log_prob(x, context[0])
    with pytest.raises(ValueError, match=r"context.* 2.* 3"):
        flow.rsample_and_log_prob(4, normal(4, 3))
    with pytest.raises(TypeError, match=r"context.*float64.*float32"):
        flow.log_prob(x, context.float())
    with pytest.raises(ValueError, match=r"context.* 4 of 4 "):
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


@every_continuous
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


def test_a_flow_is_made_of_a_bijection(normal: Normal) -> None:
    """Any object with its two methods serves; without a dimension a Flow cannot sample."""

    class Doubling:
        def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return 2 * x, x.new_full((len(x),), x.shape[1] * math.log(2))

        def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return z / 2, z.new_full((len(z),), -z.shape[1] * math.log(2))

    flow, x = Flow(Doubling(), dim=3), normal(5, 3)
    half = torch.distributions.Normal(torch.zeros(3).double(), 0.5)
    torch.testing.assert_close(flow.log_prob(x), half.log_prob(x).sum(1))
    assert flows.check(flow).passed
    with pytest.raises(TypeError, match=r"int.*forward.*inverse"):
        Flow(3)
    with pytest.raises(ValueError, match="dim=D"):
        Flow(IdentityTransform()).sample(3)


class _Hiding:
    """A Bijection whose parameters no Flow would find."""

    def __init__(self) -> None:
        self.net = nn.Linear(2, 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    inverse = forward


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Flow(_Hiding(), dim=2), TypeError, "_Hiding.*net.*nn.Module"),
        (lambda: Flow(IdentityTransform, dim=2), TypeError, "IdentityTransform"),
        (lambda: Flow(nn.Linear(2, 2), dim=2), TypeError, "Linear.*inverse"),
        (lambda: Flow(IdentityTransform(), dim=0), ValueError, "0"),
        (lambda: Flow(IdentityTransform(), dim="3"), ValueError, "'3'"),
        (
            lambda: Flow(IdentityTransform(), 2, base=torch.distributions.Normal(0.0, 1.0)),
            TypeError,
            "Normal.*flows.adapters.distributions",
        ),
        (lambda: Flow(IdentityTransform(), 2).sample(2.5), ValueError, r"2\.5"),
        (
            lambda: flows.build("maf", 2, context_dim=1).log_prob(torch.ones(3, 2), [1.0]),
            TypeError,
            "context.*Tensor.*list",
        ),
    ],
)
def test_what_a_flow_cannot_be_made_of_is_named(make: Any, error: Any, message: str) -> None:
    """At construction, not at the first call."""
    with pytest.raises(error, match=message):
        make()


def test_initialize_tells_what_it_cannot_reach(normal: Normal) -> None:
    """An ActNorm that runs backward from data to noise; one that runs twice is set once."""
    x = 3 * normal(100, 2) + 1
    backward = Flow(InverseTransform(ActNorm(2)), dim=2).double()
    with pytest.raises(ValueError, match="_transform"):
        backward.initialize(x)
    norm = ActNorm(2).double()
    Flow(CompositeTransform([norm, norm]), dim=2).initialize(x)
    torch.testing.assert_close(norm(x)[0].std(0), torch.ones(2).double())
