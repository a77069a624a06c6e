"""Discrete flows: nflows' transforms and their repairs, splines, planar layers, batched LU."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from nflows import transforms
from nflows.distributions import StandardNormal
from nflows.flows import Flow as NflowsFlow
from nflows.transforms.splines import unconstrained_rational_quadratic_spline as theirs
from nflows.utils import create_alternating_binary_mask
from torch import Tensor, nn

import flows
from continuous_fields import moved
from flows import Flow, linalg
from flows.continuous import CNF, MLPField
from flows.discrete import nflows_compat
from flows.discrete.nflows_compat import FLATTEST, NARROWEST, UNIT_SLOPE, Spline
from flows.discrete.planar import Planar

LINEAR_LAYERS = {"NaiveLinear": (4,), "LULinear": (4,), "QRLinear": (4, 4), "SVDLinear": (4, 4)}


def assert_bijection(transform: Any, x: Tensor, tolerance: float = 1e-8) -> None:
    """ladj is that of the Jacobian, the inverse finds the point again, gradients are finite."""
    z, ladj = transform.forward(x)
    jacobian = torch.autograd.functional.jacobian
    rows = [jacobian(lambda row: transform.forward(row[None])[0][0], row) for row in x]
    expected = torch.linalg.slogdet(torch.stack(rows).double())[1].to(ladj)
    back, opposite = transform.inverse(z)
    for value, true in ((ladj, expected), (back, x), (opposite, -ladj)):
        torch.testing.assert_close(value, true, atol=tolerance, rtol=0)
    weights = list(transform.parameters())
    for result in (z.sum() + ladj.sum(), back.sum() + opposite.sum()):
        gradients = torch.autograd.grad(result, weights, retain_graph=True, materialize_grads=True)
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


@pytest.mark.parametrize("context_dim", [0, 2])
def test_a_transform_of_nflows_is_one_of_ours_and_the_reverse(context_dim, normal):
    inner = transforms.MaskedAffineAutoregressiveTransform(3, 8, context_dim or None, num_blocks=1)
    field = MLPField(3, hidden=8, context_dim=context_dim)
    several = [transforms.ActNorm(3).eval(), transforms.InverseTransform(inner)]
    several += [CNF(field, solver={"rtol": 1e-9, "atol": 1e-9}), transforms.ReversePermutation(3)]
    stack = moved(transforms.CompositeTransform([*several, transforms.HouseholderSequence(3, 2)]))
    x, context = normal(5, 3), normal(5, 2, seed=3) if context_dim else None
    ours, theirs = Flow(stack, 3, context_dim), NflowsFlow(stack, StandardNormal([3])).double()
    both = [flow.log_prob(x, context) for flow in (ours, theirs)]
    torch.testing.assert_close(*both)
    gradients = [torch.autograd.grad(part.sum(), [*stack.parameters()]) for part in both]
    torch.testing.assert_close(*gradients)
    sample, log_prob = ours.rsample_and_log_prob(5, context)
    torch.testing.assert_close(ours.log_prob(sample, context), log_prob, atol=1e-7, rtol=0)
    if not context_dim:
        assert_bijection(stack, x, 1e-7)


class _WithoutContext(nn.Sequential):
    """A net under the signature that couplings call."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x)


def test_coupling_can_expand(normal):
    """The original's scale is at most 1.001, so its log-determinant cannot grow; ours can."""

    def net(inputs: int, outputs: int) -> nn.Module:
        last = nn.Linear(inputs, outputs)
        nn.init.constant_(last.bias, 5.0)
        return _WithoutContext(last)

    mask = create_alternating_binary_mask(4, even=True)
    coupling = nflows_compat.AffineCouplingTransform(mask, net).double()
    assert coupling.forward(normal(50, 4))[1].min().item() > 2
    assert_bijection(coupling, normal(3, 4))


def test_fewer_kernels_compute_the_same(normal):
    def stack(module: Any, mask: list[int]) -> nn.Module:
        parts = [
            module.AdditiveCouplingTransform(mask, lambda i, o: _WithoutContext(nn.Linear(i, o))),
            module.ReversePermutation(5),
            module.LULinear(5),
        ]
        return module.CompositeTransform(parts)

    x, original = normal(6, 5), moved(stack(transforms, [1, 0, 0, 1, 1]))
    ours = stack(nflows_compat, [0, 1, 1, 0, 1]).double()
    ours.load_state_dict(original.state_dict())
    torch.testing.assert_close(ours(x), original(x))
    assert_bijection(ours, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_actnorm_refuses_what_it_cannot_scale(dtype, normal):
    """A constant column, though rounding gives it a deviation, is named."""
    ours = nflows_compat.ActNorm(3).to(dtype)
    for rows in (2, 7, 1000, 4097):
        x = normal(rows, 3, dtype=dtype)
        x[:, 1] = 0.1
        with pytest.raises(ValueError, match=rf"columns \[1\].*{rows} rows"):
            ours.initialize(x)
        assert not bool(ours.log_scale.any())
    for rows in (0, 1):
        with pytest.raises(ValueError, match=f"ActNorm.* {rows}"):
            ours.initialize(x[:rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_masked_maps_start_as_the_identity(dtype):
    """The original starts by contracting each column to 0.69."""
    x = torch.randn(5, 3, dtype=dtype)
    affine = nflows_compat.MaskedAffineAutoregressiveTransform(3, 8)
    kind = nflows_compat.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
    for ours in (affine.to(dtype), kind(3, 8, num_bins=4, tail_bound=3.0).to(dtype)):
        z, ladj = ours(x)
        torch.testing.assert_close(z, x, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ladj, torch.zeros(5, dtype=dtype), atol=1e-5, rtol=0)
        assert ours(x[:0])[0].shape == (0, 3)


def test_householder_sequences_keep_dtype_and_length(normal):
    """The original's matrix fails in float64, and too many reflections have length zero."""
    ours = moved(nflows_compat.HouseholderSequence(3, 4))
    torch.testing.assert_close(ours.matrix() @ ours.matrix().T, torch.eye(3).double())
    torch.testing.assert_close(ours.forward(normal(5, 3))[0], normal(5, 3) @ ours.matrix().T)
    with pytest.raises(ValueError, match=r"6 .* 2 "):
        nflows_compat.HouseholderSequence(2, 6)


@pytest.mark.filterwarnings("ignore:.*qr is deprecated")
@pytest.mark.parametrize("name", LINEAR_LAYERS)
def test_linear_layers_take_the_state_of_the_originals(name, normal):
    sizes = (4, False) if name == "NaiveLinear" else LINEAR_LAYERS[name]
    original = moved(getattr(transforms, name)(*sizes))
    ours = getattr(nflows_compat, name)(*LINEAR_LAYERS[name]).double()
    ours.load_state_dict(original.state_dict(), strict=True)
    torch.testing.assert_close(ours(normal(3, 4)), original(normal(3, 4)))
    inverse, ladj = ours.weight_inverse_and_logabsdet()
    torch.testing.assert_close(inverse @ original.weight(), torch.eye(4, dtype=ladj.dtype))
    assert_bijection(ours, normal(3, 4))


@pytest.mark.parametrize("name", LINEAR_LAYERS)
def test_caches_follow_the_parameters(name, normal):
    """The original serves a stale weight, fails after float(), and in a second backward pass."""
    layer = moved(getattr(nflows_compat, name)(*LINEAR_LAYERS[name])).eval()
    x = normal(5, 4)
    layer.use_cache()
    with torch.no_grad():
        before = layer(x)[1]
        for parameter in layer.parameters():
            parameter += 0.1
        assert not torch.allclose(layer(x)[1], before)
    for loss in [layer(x)[0].sum() for _ in range(2)]:
        loss.backward()
    assert layer.float()(x.float())[0].dtype == torch.float32


@settings(max_examples=60)
@given(
    bins=st.integers(2, 12),
    bound=st.floats(0.5, 100),
    spread=st.floats(0, 3),
    seed=st.integers(0, 10**6),
)
def test_it_is_nflows_spline_and_inverts(bins, bound, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    raw = spread * torch.randn(40, 2, 3 * bins - 1, generator=generator, dtype=torch.float64)
    x = 0.7 * bound * torch.randn(40, 2, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    spline = Spline(raw, bound)
    y, log_slope = spline.forward(x)
    widths, heights, slopes = raw.split((bins, bins, bins - 1), -1)
    least = {"min_bin_width": NARROWEST, "min_bin_height": NARROWEST, "min_derivative": FLATTEST}
    reference = theirs(x, widths, heights, slopes + UNIT_SLOPE, tail_bound=bound, **least)
    torch.testing.assert_close(y, reference[0], atol=1e-9 * bound, rtol=0)
    torch.testing.assert_close(log_slope, reference[1], atol=1e-7, rtol=0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope.log(), log_slope, atol=1e-9, rtol=0)
    back, opposite, missed = spline.inverse(y)
    assert bool((missed <= 1e-9 * bound).all())
    assert bool(((spline.forward(back)[0] - y).abs() <= 1e-9 * bound).all())
    torch.testing.assert_close(spline.forward(back)[1], -opposite, atol=1e-6, rtol=0)


@pytest.mark.parametrize("bound", [3.0, 50.0])
def test_the_ends_belong_to_the_tails(bound):
    raw = 2 * torch.randn(6, 1, 14)
    ends = torch.tensor([[-bound], [bound], [bound * 2], [-bound * 9], [-1e30], [1e30]])
    y, slope = Spline(raw, bound).forward(ends)
    assert torch.equal(y, ends)
    assert torch.equal(slope, torch.zeros_like(ends))
    inside, _ = Spline(raw[:2], bound).forward(ends[:2] * (1 - 1e-5))
    torch.testing.assert_close(inside, ends[:2], rtol=1e-3, atol=0)


def _splines(module: Any, raw: Tensor) -> nn.Module:
    """The coupling of nflows or of ours whose net gives ``raw``, whatever it reads."""

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.raw = raw

        def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return raw

    mask = create_alternating_binary_mask(2, even=True)
    kind = module.PiecewiseRationalQuadraticCouplingTransform
    return kind(mask, lambda i, o: Fixed(), num_bins=8, tails="linear", tail_bound=3.0)


@pytest.mark.filterwarnings("ignore:Inputs to the softmax are not scaled down")
def test_an_inverse_that_rounding_spoils_is_solved_in_float64(normal):
    """In float32 the original misses by 1e-3; ours solves those again, and counts them."""
    raw = 20 * normal(100_000, 23, dtype=torch.float32)
    y = 1.5 * normal(100_000, 2, seed=1, dtype=torch.float32)
    missed = []
    for module in (transforms, nflows_compat):
        coupling = _splines(module, raw)
        x, ladj = coupling.inverse(y)
        assert x.dtype == ladj.dtype == torch.float32
        missed.append((coupling.forward(x)[0] - y).abs().max().item())
    theirs, ours = missed
    assert theirs > 1e-3
    assert ours < theirs / 4
    assert 0 < coupling.fallbacks < 5_000
    for sound in (_splines(module, raw.double()), _splines(module, 0.02 * raw)):
        sound.inverse(y.to(sound.transform_net.raw))
        assert sound.fallbacks == 0


def test_the_inverse_never_fails(normal):
    for dtype in (torch.float32, torch.float64):
        raw = normal(20_000, 2, 23, dtype=dtype) * 6
        raw[..., 16:] *= 1e6
        y = 3 * normal(20_000, 2, seed=1, dtype=dtype)
        x, slope, _ = Spline(raw, 3.0).inverse(y)
        assert bool(torch.isfinite(x).all() & torch.isfinite(slope).all())
        assert bool(((x.abs() <= 3.0) | (x == y)).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 1}, "bins.* 2 to 999.* 1"),
        ({"bins": 2.5}, r"bins.* 2\.5"),
        ({"tail_bound": 0}, "tail_bound.* 0"),
        ({"tail_bound": "5"}, "tail_bound.* '5'"),
        ({"linear": ["lu"]}, r"\['lu'\].*naive"),
    ],
)
@pytest.mark.parametrize("name", ["nsf_coupling", "nsf_ar"])
def test_what_is_no_spline_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        flows.build(name, 3, **options)


def _planar(u: Tensor, w: Tensor) -> Planar:
    layer = Planar(len(u)).to(u.dtype)
    layer.load_state_dict({**layer.state_dict(), "u": u, "w": w})
    return layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-8, 1.0, 30.0])
def test_any_length_of_w(size, dtype, normal):
    """Down to w = 0, where the layer is a shift."""
    x, u, w = normal(6, 3, dtype=dtype), normal(3, seed=1, dtype=dtype), normal(3, seed=2)
    layer = _planar(u, size * w.to(dtype))
    assert_bijection(layer, x, 1e-4 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("wu", [-5.0, -20.0, -60.0, 60.0])
def test_strong_bends_stay_finite(wu, normal):
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


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("size", [127, 160, 256])
def test_large_batches_agree_with_numpy(size, normal):
    """Forward and backward with two threads, where torch's batched LU may be silently wrong."""
    a = normal(6, size, size).requires_grad_()
    inverse = np.linalg.inv(a.detach().numpy())
    scale = np.abs(inverse).max()

    logabsdet = linalg.logabsdet(a)
    expected = np.linalg.slogdet(a.detach().numpy())[1]
    np.testing.assert_allclose(logabsdet.detach(), expected, atol=1e-9, rtol=0)
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


@pytest.mark.usefixtures("two_threads")
def test_vmap_hides_a_batch_and_is_right_too(normal):
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
def test_gradients(function, shape, normal):
    a = (normal(*shape) + 2 * torch.eye(shape[-1])).requires_grad_()
    assert torch.autograd.gradcheck(function, (a,))
    assert torch.autograd.gradgradcheck(function, (a,))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("size", [3, 130])
@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (0,), (2, 0)])
def test_batch_shapes(size, batch, normal):
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


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("size", [3, 130])
def test_singular_matrices(size, normal):
    a = normal(2, size, size)
    a[0, 1] = 0
    values = linalg.logabsdet(a)
    assert values[0] == -torch.inf
    assert values[1].item() == pytest.approx(np.linalg.slogdet(a[1].numpy())[1])
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        linalg.inv(a)
