"""Planar layers where they are hard: flat directions, steep bends, second derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flows.discrete.planar import Planar

Normal = Callable[..., Tensor]


def _planar(u: Tensor, w: Tensor) -> Planar:
    layer = Planar(len(u)).to(u.dtype)
    with torch.no_grad():
        layer.u.copy_(u)
        layer.w.copy_(w)
    return layer


def _check(layer: Planar, x: Tensor, tolerance: float) -> None:
    """ladj is that of the Jacobian, the inverse finds the point again, gradients are finite."""
    z, ladj = layer(x)
    jacobians = torch.stack(
        [torch.autograd.functional.jacobian(lambda r: layer(r[None])[0][0], row) for row in x]
    )
    torch.testing.assert_close(
        ladj, torch.linalg.slogdet(jacobians.double())[1].to(ladj), atol=tolerance, rtol=0
    )
    back, opposite = layer.inverse(z)
    torch.testing.assert_close(back, x, atol=tolerance, rtol=0)
    torch.testing.assert_close(opposite, -ladj, atol=tolerance, rtol=0)
    for result in (z.sum() + ladj.sum(), back.sum() + opposite.sum()):
        for gradient in torch.autograd.grad(result, list(layer.parameters()), retain_graph=True):
            assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-8, 1.0, 30.0])
def test_any_length_of_w(size: float, dtype: torch.dtype, normal: Normal) -> None:
    """Down to w = 0, where the layer is a shift."""
    x, u, w = normal(6, 3, dtype=dtype), normal(3, seed=1, dtype=dtype), normal(3, seed=2)
    _check(_planar(u, size * w.to(dtype)), x, 1e-4 if dtype == torch.float32 else 1e-9)


def test_without_u_it_is_the_identity(normal: Normal) -> None:
    """As every other family starts."""
    x = normal(6, 3)
    z, ladj = _planar(torch.zeros(3).double(), normal(3, seed=2))(x)
    torch.testing.assert_close(z, x)
    torch.testing.assert_close(ladj, torch.zeros(6).double())


@pytest.mark.parametrize("wu", [-5.0, -20.0, -60.0, 60.0])
def test_strong_bends_stay_finite(wu: float, normal: Normal) -> None:
    """Where 1 + wᵀû is smaller than rounding can add to 1, log |det| is still its logarithm."""
    x = normal(50, 2) * torch.tensor([[1.0], [0.0]]).repeat(25, 1)  # the bend's middle among them
    layer = _planar(torch.tensor([wu, 0.5]).double(), torch.tensor([1.0, 0.0]).double())
    z, ladj = layer(x)
    back, opposite = layer.inverse(z)
    again, _ = layer(back)
    assert bool(torch.isfinite(ladj).all() & torch.isfinite(opposite).all())
    torch.testing.assert_close(again, z, atol=1e-9, rtol=0)
    if wu < 0:
        assert ladj.min().item() == pytest.approx(wu + 0.541, abs=0.3)


def test_two_derivatives_of_the_inverse(normal: Normal) -> None:
    """Newton's two last steps carry both."""
    layer = _planar(normal(3, seed=1), normal(3, seed=2))
    z = normal(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(layer.inverse, (z,))
    assert torch.autograd.gradgradcheck(layer.inverse, (z,))
