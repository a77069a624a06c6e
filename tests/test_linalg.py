"""Batched LU against numpy where torch's own is wrong, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from flows import linalg

Normal = Callable[..., Tensor]


@pytest.fixture
def _two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("size", [127, 160, 256])
def test_large_batches_agree_with_numpy(size: int, normal: Normal) -> None:
    """Forward and backward with two threads, where torch's batched LU may be silently wrong."""
    a = normal(6, size, size).requires_grad_()
    inverse = np.linalg.inv(a.detach().numpy())
    scale = np.abs(inverse).max()

    logabsdet = linalg.logabsdet(a)
    np.testing.assert_allclose(
        logabsdet.detach().numpy(), np.linalg.slogdet(a.detach().numpy())[1], atol=1e-9, rtol=0
    )
    (gradient,) = torch.autograd.grad(logabsdet.sum(), a)
    np.testing.assert_allclose(gradient, inverse.swapaxes(1, 2), atol=1e-10 * scale, rtol=0)

    weights = normal(6, size, size, seed=1)
    ours = linalg.inv(a)
    np.testing.assert_allclose(ours.detach(), inverse, atol=1e-10 * scale, rtol=0)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), a)
    transposed = inverse.swapaxes(1, 2)
    reference = -transposed @ weights.numpy() @ transposed
    np.testing.assert_allclose(gradient, reference, atol=1e-9 * np.abs(reference).max(), rtol=0)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("_two_threads")
def test_vmap_hides_a_batch_and_is_right_too(normal: Normal) -> None:
    """Under torch.func the batch is not in the shape; large ones must not reach torch's routine."""
    a = normal(4, 256, 256)
    inverse = np.linalg.inv(a.numpy())
    scale = np.abs(inverse).max()
    logabsdet = torch.vmap(linalg.logabsdet)(a)
    np.testing.assert_allclose(logabsdet, np.linalg.slogdet(a.numpy())[1], atol=1e-9, rtol=0)
    np.testing.assert_allclose(torch.vmap(linalg.inv)(a), inverse, atol=1e-10 * scale, rtol=0)
    gradient = torch.vmap(torch.func.grad(linalg.logabsdet))(a)
    np.testing.assert_allclose(gradient, inverse.swapaxes(1, 2), atol=1e-10 * scale, rtol=0)


@pytest.mark.parametrize("function", [linalg.inv, linalg.logabsdet])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (2, 3, 2, 2), (2, 1, 1)])
def test_gradients(
    function: Callable[[Tensor], Tensor], shape: tuple[int, ...], normal: Normal
) -> None:
    """First and second derivatives are those of differences."""
    a = (normal(*shape) + 2 * torch.eye(shape[-1])).requires_grad_()
    assert torch.autograd.gradcheck(function, (a,))
    assert torch.autograd.gradgradcheck(function, (a,))


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("size", [3, 130])
@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (0,), (2, 0)])
def test_batch_shapes(size: int, batch: tuple[int, ...], normal: Normal) -> None:
    """(..., n, n) -> (..., n, n) and (...), with gradients; empty batches included."""
    a = normal(*batch, size, size).requires_grad_()
    inverse, logabsdet = linalg.inv(a), linalg.logabsdet(a)
    assert inverse.shape == (*batch, size, size)
    assert logabsdet.shape == batch
    identity = torch.eye(size).double().expand_as(inverse)
    torch.testing.assert_close(inverse.detach() @ a.detach(), identity, atol=1e-9, rtol=0)
    reference = np.linalg.slogdet(a.detach().numpy())[1]
    np.testing.assert_allclose(logabsdet.detach(), reference, atol=1e-10, rtol=0)
    (gradient,) = torch.autograd.grad(logabsdet.sum() + inverse.sum(), a)
    assert gradient.shape == a.shape


def test_vmap_agrees_with_a_loop(normal: Normal) -> None:
    """Values and Jacobians of small matrices, mapped over one and two axes."""
    a = normal(3, 2, 4, 4)
    twice = torch.vmap(torch.vmap(linalg.logabsdet))(a)
    torch.testing.assert_close(twice, linalg.logabsdet(a))
    jacobians = torch.vmap(torch.func.jacrev(linalg.inv))(a[:, 0])
    loop = [torch.autograd.functional.jacobian(linalg.inv, matrix) for matrix in a[:, 0]]
    torch.testing.assert_close(jacobians, torch.stack(loop))


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("size", [3, 130])
def test_singular_matrices(size: int, normal: Normal) -> None:
    """log |det| is -inf where singular, right beside it; an inverse does not exist."""
    a = normal(2, size, size)
    a[0, 1] = 0
    values = linalg.logabsdet(a)
    assert values[0] == -torch.inf
    assert values[1].item() == pytest.approx(np.linalg.slogdet(a[1].numpy())[1])
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        linalg.inv(a)


def test_dtype_is_kept(normal: Normal) -> None:
    """float32 in, float32 out."""
    a = normal(2, 3, 3, dtype=torch.float32)
    assert linalg.inv(a).dtype == linalg.logabsdet(a).dtype == torch.float32
