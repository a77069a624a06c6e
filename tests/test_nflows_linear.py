"""Repairs of nflows' linear layers, each beside the fault that it mends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nflows import transforms
from torch import Tensor

from flows.discrete import nflows_compat
from nflows_modules import assert_bijection, moved

Normal = Callable[..., Tensor]


@pytest.mark.usefixtures("warn_always")
def test_naive_linear_inverts(normal: Normal) -> None:
    """The original warns when built and cannot invert on today's torch; ours does neither."""
    if hasattr(torch, "qr") and torch.__version__ < "2.14":
        with pytest.warns(UserWarning, match="qr is deprecated"):
            transforms.NaiveLinear(4)
    else:
        with pytest.raises((AttributeError, RuntimeError), match="qr"):
            transforms.NaiveLinear(4)
    original = transforms.NaiveLinear(4, orthogonal_initialization=False)
    with pytest.raises((AttributeError, RuntimeError), match="solve"):
        original.inverse(torch.zeros(2, 4))
    ours = nflows_compat.NaiveLinear(4).double()
    weight = ours.weight().detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(4).double(), atol=1e-6, rtol=0)
    moved(ours, normal)
    assert_bijection(ours, normal(3, 4))
    inverse, logabsdet = ours.weight_inverse_and_logabsdet()
    torch.testing.assert_close(inverse @ ours.weight(), torch.eye(4).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(logabsdet, torch.linalg.slogdet(ours.weight())[1])


@pytest.mark.usefixtures("warn_always")
def test_lu_linear_is_of_today(normal: Normal) -> None:
    """The original warns when it inverts; ours inverts silently, in float64 too."""
    x = normal(3, 4)
    original = moved(transforms.LULinear(4), normal)
    with pytest.warns(UserWarning, match="triangular_solve is deprecated"):
        reference = original.inverse(x)[0]
    ours = nflows_compat.LULinear(4).double()
    ours.load_state_dict(original.state_dict(), strict=True)
    torch.testing.assert_close(ours.inverse(x)[0], reference)
    assert_bijection(ours, x)


@pytest.mark.filterwarnings("ignore:.*triangular_solve is deprecated")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_lu_linears_inverse_weight_keeps_its_dtype(dtype: torch.dtype, normal: Normal) -> None:
    """The original builds its identity in float32 and fails in float64."""
    original = moved(transforms.LULinear(4), normal).to(dtype)
    if dtype == torch.float64:
        with pytest.raises(RuntimeError, match=r"dtype|type"):
            original.weight_inverse()
    ours = nflows_compat.LULinear(4).to(dtype)
    ours.load_state_dict(original.state_dict())
    inverse = ours.weight_inverse()
    assert inverse.dtype == dtype
    torch.testing.assert_close(inverse @ ours.weight(), torch.eye(4, dtype=dtype))


@pytest.mark.usefixtures("warn_always")
def test_qr_linear_is_of_today(normal: Normal) -> None:
    """The original warns when it inverts and cannot tell its inverse in float64; ours does both."""
    original = moved(transforms.QRLinear(4, 4), normal)
    with pytest.warns(UserWarning, match="triangular_solve is deprecated"):
        reference = original.inverse(normal(3, 4))[0]
    with pytest.raises(RuntimeError, match=r"dtype|type"):
        original.weight_inverse()
    ours = nflows_compat.QRLinear(4, 4).double()
    ours.load_state_dict(original.state_dict(), strict=True)
    torch.testing.assert_close(ours.inverse(normal(3, 4))[0], reference)
    assert_bijection(ours, normal(3, 4))
    inverse = ours.weight_inverse()
    torch.testing.assert_close(inverse @ ours.weight(), torch.eye(4).double(), atol=1e-10, rtol=0)


def test_householder_sequences_keep_dtype_and_length(normal: Normal) -> None:
    """The original's matrix fails in float64, and too many reflections have length zero."""
    original = transforms.HouseholderSequence(3, 4).double()
    with pytest.raises(RuntimeError, match=r"dtype|type"):
        original.matrix()
    ours = moved(nflows_compat.HouseholderSequence(3, 4), normal)
    torch.testing.assert_close(ours.matrix() @ ours.matrix().T, torch.eye(3).double())
    torch.testing.assert_close(ours.forward(normal(5, 3))[0], normal(5, 3) @ ours.matrix().T)
    too_many = transforms.HouseholderSequence(2, 6).double()
    assert not bool(torch.isfinite(too_many.forward(normal(5, 2))[0]).all())
    with pytest.raises(ValueError, match=r"6 .* 2 "):
        nflows_compat.HouseholderSequence(2, 6)


CACHED = {
    "NaiveLinear": lambda module: (
        module.NaiveLinear(4, False) if module is transforms else module.NaiveLinear(4)
    ),
    "LULinear": lambda module: module.LULinear(4),
    "QRLinear": lambda module: module.QRLinear(4, 4),
    "SVDLinear": lambda module: module.SVDLinear(4, 4),
}


@pytest.mark.filterwarnings("ignore:.*qr is deprecated")
@pytest.mark.parametrize("name", CACHED)
def test_caches_follow_the_parameters(name: str, normal: Normal) -> None:
    """The original serves a stale weight, fails after float(), and in a second backward pass."""
    x = normal(5, 4)
    for module, repaired in ((transforms, False), (nflows_compat, True)):
        layer = moved(CACHED[name](module), normal).eval()
        layer.use_cache()
        with torch.no_grad():
            before = layer(x)[1]
            torch.testing.assert_close(layer(x)[1], before)  # from the cache
            for parameter in layer.parameters():
                parameter += 0.1
            after = layer(x)[1]
            assert torch.allclose(after, layer.forward_no_cache(x)[1]) == repaired
            assert torch.allclose(after, before) != repaired
        losses = [layer(x)[0].sum() for _ in range(2)]
        losses[0].backward()
        if repaired:
            losses[1].backward()
            with torch.no_grad():
                z, ladj = layer(x)
                back, opposite = layer.inverse(z)
                torch.testing.assert_close(back, x)
                torch.testing.assert_close(ladj, -opposite)
                assert layer.float()(x.float())[0].dtype == torch.float32


def test_a_cached_weight_has_no_graph(normal: Normal) -> None:
    """The original keeps the graph of its first call, and a second backward pass fails."""
    original = moved(transforms.LULinear(4), normal).eval()
    original.use_cache()
    original(normal(5, 4))[0].sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        original(normal(5, 4))[0].sum().backward()
