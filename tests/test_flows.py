"""What every flow offers beside what the conformance kit judges: views, torch.func, devices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nflows.transforms import IdentityTransform
from torch import Tensor

import flows
from flows import Flow
from flows.discrete.nflows_compat import ActNorm
from member_marks import every_conditional, every_continuous, every_discrete, every_member

Make = Callable[..., Flow]
Normal = Callable[..., Tensor]


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


def test_a_loss_is_that_of_an_overridden_density(normal: Normal) -> None:
    """A Flow whose log_prob is its own trains on it."""

    class Shifted(Flow):
        def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return super().log_prob(x, context) - 1.0

    x = normal(4, 2)
    transform = flows.build("realnvp", 2, hidden=4).double().transform
    assert Shifted(transform, 2).loss(x) == Flow(transform, 2).loss(x) + 1.0
