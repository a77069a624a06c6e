"""nflows' own transforms as Bijections, and a CNF among nflows' transforms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nflows import transforms
from nflows.distributions import StandardNormal
from nflows.flows import Flow as NflowsFlow
from nflows.nn.nets import ResidualNet
from nflows.utils import create_alternating_binary_mask
from torch import Tensor, nn

import flows
from flows import Flow
from flows.continuous import CNF, MLPField
from nflows_modules import assert_bijection, moved

Normal = Callable[..., Tensor]


def _net(inputs: int, outputs: int) -> nn.Module:
    return ResidualNet(inputs, outputs, hidden_features=8, num_blocks=1)


def _rq_coupling() -> nn.Module:
    mask = create_alternating_binary_mask(3, even=True)
    return transforms.PiecewiseRationalQuadraticCouplingTransform(
        mask, _net, num_bins=4, tails="linear", tail_bound=3.0, apply_unconditional_transform=True
    )


def _composite() -> nn.Module:
    return transforms.CompositeTransform(
        [
            transforms.ReversePermutation(3),
            transforms.MaskedAffineAutoregressiveTransform(3, 8, num_blocks=1),
            transforms.HouseholderSequence(3, 2),
        ]
    )


NFLOWS: dict[str, Callable[[], nn.Module]] = {
    "spline coupling": _rq_coupling,
    "MAF": lambda: transforms.MaskedAffineAutoregressiveTransform(3, 8, num_blocks=1),
    "IAF": lambda: transforms.InverseTransform(
        transforms.MaskedAffineAutoregressiveTransform(3, 8, num_blocks=1)
    ),
    "spline AR": lambda: transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        3, 8, num_bins=4, tails="linear", tail_bound=3.0, num_blocks=1
    ),
    "affine coupling": lambda: transforms.AffineCouplingTransform(
        create_alternating_binary_mask(3, even=False), _net
    ),
    "householder": lambda: transforms.HouseholderSequence(3, 2),
    "actnorm": lambda: transforms.ActNorm(3).eval(),
    "composite": _composite,
}


@pytest.mark.parametrize("name", NFLOWS)
def test_an_nflows_transform_is_a_bijection(name: str, normal: Normal) -> None:
    """In flows.Flow unchanged: the density of nflows' own Flow, its samples and their log_prob."""
    transform = moved(NFLOWS[name](), normal)
    flow = Flow(transform, dim=3)
    x = normal(5, 3)
    reference = NflowsFlow(transform, StandardNormal([3])).log_prob(x)
    torch.testing.assert_close(flow.log_prob(x), reference)
    assert_bijection(transform, x)
    sample, log_prob = flow.rsample_and_log_prob(6)
    torch.testing.assert_close(flow.log_prob(sample), log_prob, atol=1e-8, rtol=0)
    torch.testing.assert_close(flow.using(noise=1).log_prob(x), flow.log_prob(x))


@pytest.mark.parametrize("conditional", [False, True])
def test_a_cnf_is_an_nflows_transform(conditional: bool, normal: Normal) -> None:
    """Inside nflows' Flow, among nflows' transforms, with and without a context: our log_prob."""
    field = MLPField(3, hidden=8, context_dim=2 if conditional else 0)
    cnf = moved(CNF(field, solver={"rtol": 1e-9, "atol": 1e-9}), normal)
    stack = transforms.CompositeTransform([cnf, transforms.ReversePermutation(3)])
    x = normal(5, 3)
    context = normal(5, 2, seed=3) if conditional else None
    theirs = NflowsFlow(stack, StandardNormal([3])).double()
    ours = Flow(stack, dim=3)
    torch.testing.assert_close(theirs.log_prob(x, context), ours.log_prob(x, context))
    gradients = [
        torch.autograd.grad(flow.log_prob(x, context).sum(), list(cnf.parameters()))
        for flow in (theirs, ours)
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    assert flows.Bijection  # the protocol that both keep
