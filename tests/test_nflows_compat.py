"""Each repair of an nflows transform beside the fault that it mends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nflows import transforms
from nflows.distributions import StandardNormal
from nflows.flows import Flow as NflowsFlow
from nflows.utils import create_alternating_binary_mask
from torch import Tensor, nn

import flows
from flows import Flow
from flows.discrete import nflows_compat
from flows.discrete.linear import LINEAR
from nflows_modules import assert_bijection, moved

Normal = Callable[..., Tensor]


class _WithoutContext(nn.Sequential):
    """A net under the signature that couplings call."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x)


def _coupling(kind: Any) -> Any:
    def net(inputs: int, outputs: int) -> nn.Module:
        torch.manual_seed(0)
        last = nn.Linear(inputs, outputs)
        nn.init.constant_(last.bias, 5.0)
        return _WithoutContext(last)

    return kind(create_alternating_binary_mask(4, even=True), net).double()


def test_coupling_can_expand(normal: Normal) -> None:
    """The original's scale is at most 1.001, so its log-determinant cannot grow; ours can."""
    x = normal(50, 4)
    original = _coupling(transforms.AffineCouplingTransform)
    ours = _coupling(nflows_compat.AffineCouplingTransform)
    ceiling = 2 * math.log(1.001)  # two of the four columns are scaled
    assert original.forward(x)[1].max().item() <= ceiling + 1e-12
    assert ours.forward(x)[1].min().item() > 2
    assert_bijection(ours, x[:3])


@pytest.mark.parametrize("value", [-1e6, -3.0, 0.0, 3.0, 1e6])
def test_couplings_scale_is_bounded(value: float) -> None:
    """exp(2 tanh(u/2)): one at zero, symmetric in the logarithm, within e±2."""
    coupling = _coupling(nflows_compat.AffineCouplingTransform)
    parameters = torch.full((1, 4), value, dtype=torch.float64)
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    shift, ladj = coupling._coupling_transform_forward(zeros, parameters)
    torch.testing.assert_close(ladj, torch.tensor([4 * math.tanh(value / 2)]).double())
    assert bool((ladj.abs() <= 4 + 1e-12).all())
    assert bool((shift == value).all())


def test_fewer_kernels_compute_the_same(normal: Normal) -> None:
    """Couplings, permutations, L U and their composition, of the original's state and columns."""

    def stack(module: Any, mask: list[int]) -> nn.Module:
        parts = [
            module.AdditiveCouplingTransform(mask, lambda i, o: _WithoutContext(nn.Linear(i, o))),
            module.ReversePermutation(5),
            module.LULinear(5),
        ]
        return module.CompositeTransform(parts)

    x, original = normal(6, 5), moved(stack(transforms, [1, 0, 0, 1, 1]), normal)
    ours = stack(nflows_compat, [0, 1, 1, 0, 1]).double()
    ours.load_state_dict(original.state_dict())
    torch.testing.assert_close(ours(x), original(x))
    assert_bijection(ours, x)


def test_actnorm_initialises_when_told(normal: Normal) -> None:
    """The original sets itself in its first training pass; ours in ``initialize`` alone."""
    x = 5 * normal(100, 3) + 2
    original, ours = transforms.ActNorm(3).double(), nflows_compat.ActNorm(3).double()
    assert not torch.allclose(original.train().forward(x)[0], x)
    torch.testing.assert_close(ours.train().forward(x)[0], x)
    ours.initialize(x)
    torch.testing.assert_close(ours.forward(x)[0], original.forward(x)[0])
    ours.initialize(2 * x)  # a second call sets it again
    torch.testing.assert_close(ours.forward(2 * x)[0], original.forward(x)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_actnorm_refuses_what_it_cannot_scale(dtype: torch.dtype, normal: Normal) -> None:
    """A constant column gives the original NaN or infinity; ours names the column."""
    for rows in (2, 7, 1000, 4097):
        x = normal(rows, 3, dtype=dtype)
        x[:, 1] = 0.1
        original = transforms.ActNorm(3).to(dtype).train()
        assert not bool(torch.isfinite(original.forward(x)[0]).all())
        ours = nflows_compat.ActNorm(3).to(dtype)
        with pytest.raises(ValueError, match=rf"columns \[1\].*{rows} rows"):
            ours.initialize(x)
        assert not bool(ours.log_scale.any())
    for rows in (0, 1):
        with pytest.raises(ValueError, match=f"ActNorm.* {rows}"):
            ours.initialize(x[:rows])


def test_batch_norm_starts_at_variance_one(normal: Normal) -> None:
    """The original's running variance starts at zero: a fresh flow in eval mode scales by 316."""
    x = normal(100, 3)
    original, ours = transforms.BatchNorm(3).double(), nflows_compat.BatchNorm(3).double()
    assert original.eval()(x)[0].abs().max() > 300
    torch.testing.assert_close(ours.eval()(x)[0], x, atol=1e-4, rtol=1e-4)
    ours.initialize(5 * x + 2)
    z, ladj = ours(5 * x + 2)
    torch.testing.assert_close(z.mean(0), torch.zeros(3).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(3).double(), atol=1e-4, rtol=0)
    back, opposite = ours.inverse(z)
    torch.testing.assert_close(back, 5 * x + 2)
    torch.testing.assert_close(opposite, -ladj)
    with pytest.raises(ValueError, match=r"BatchNorm.* columns \[0, 1, 2\]"):
        ours.initialize(torch.ones(9, 3).double())


def test_sampling_in_float64() -> None:
    """nflows' own Flow cannot sample after double(); ours can, of the same transform."""
    transform = transforms.MaskedAffineAutoregressiveTransform(3, 8)
    theirs = NflowsFlow(transform, StandardNormal([3])).double()
    with pytest.raises(RuntimeError, match=r"dtype|type"):
        theirs.sample(4)
    assert Flow(transform, dim=3).sample(4).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_masked_maps_start_as_the_identity(dtype: torch.dtype) -> None:
    """The original starts by contracting each column to 0.69."""
    x = torch.randn(5, 3, dtype=dtype)
    original = transforms.MaskedAffineAutoregressiveTransform(3, 8).to(dtype)
    with torch.no_grad():
        original.autoregressive_net.final_layer.weight.zero_()
        original.autoregressive_net.final_layer.bias.zero_()
        torch.testing.assert_close(original(x)[0], x * (math.log(2) + 1e-3))
    for kind, options in (
        (nflows_compat.MaskedAffineAutoregressiveTransform, {}),
        (
            nflows_compat.MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
            {"num_bins": 4, "tail_bound": 3.0},
        ),
    ):
        ours = kind(3, 8, **options).to(dtype)
        z, ladj = ours(x)
        torch.testing.assert_close(z, x, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ladj, torch.zeros(5, dtype=dtype), atol=1e-5, rtol=0)
        assert ours(x[:0])[0].shape == (0, 3)


def test_masks_without_an_entry_are_declared() -> None:
    """At D = 1 nothing comes before the only column: the weights of the first layer are masked."""
    for dim, declared in ((1, {"autoregressive_net.initial_layer.weight"}), (2, set())):
        transform = nflows_compat.MaskedAffineAutoregressiveTransform(dim, 8, num_blocks=1)
        assert transform.structural_zeros == declared


@pytest.mark.usefixtures("warn_always")
def test_no_deprecated_call_is_left(make_flow: Any) -> None:
    """Density, samples and gradients of every flow built on nflows, with each warning an error."""
    ours = [n for n in flows.names() if flows.members.module_of(n).startswith("flows.discrete")]
    cases = [(name, {}) for name in ours] + [("glow", {"linear": name}) for name in LINEAR]
    for name, options in cases:
        sizes = flows.members[name].applicable({"hidden": 8, "layers": 2})
        flow = make_flow(name, 4, **sizes, **options)
        x, log_prob = flow.rsample_and_log_prob(5)
        (flow.log_prob(x) - log_prob).sum().backward()
