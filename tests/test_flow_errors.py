"""Errors of flows: bad input and context, what a flow cannot be made of or reach."""

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
from member_marks import every_conditional, every_member

Make = Callable[..., Flow]
Normal = Callable[..., Tensor]


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


def test_initialize_gives_a_part_its_context(normal: Normal) -> None:
    """A part that takes one; its own input, where others come before it."""

    class Centre(IdentityTransform):
        def initialize(self, x: torch.Tensor, context: torch.Tensor) -> None:
            self.seen = x, context

    x, context, centre = normal(20, 2), normal(20, 3), Centre()
    Flow(CompositeTransform([ActNorm(2).double(), centre]), 2, 3).initialize(x, context)
    assert torch.equal(centre.seen[1], context)
    torch.testing.assert_close(centre.seen[0].std(0), torch.ones(2).double())
