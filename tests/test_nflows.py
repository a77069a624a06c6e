"""nflows: its transforms as Bijections, our CNF among them, and each repair of a transform."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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
from flows.discrete import nflows_compat
from flows.discrete.linear import LINEAR

Normal = Callable[..., Tensor]


def moved(transform: nn.Module, normal: Normal, spread: float = 0.3) -> nn.Module:
    """The transform with its parameters moved."""
    with torch.no_grad():
        for index, parameter in enumerate(transform.double().parameters()):
            parameter += spread * normal(*parameter.shape, seed=100 + index)
    return transform


def assert_bijection(transform: Any, x: Tensor, inverse: bool = True) -> None:
    z, ladj = transform.forward(x)
    for row in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(
            lambda x: transform.forward(x[None])[0][0], x[row]
        )
        reference = torch.linalg.slogdet(jacobian)[1].item()
        assert ladj[row].item() == pytest.approx(reference, abs=1e-9)
    if inverse:
        back, opposite = transform.inverse(z)
        torch.testing.assert_close(back, x, atol=1e-8, rtol=0)
        torch.testing.assert_close(opposite, -ladj, atol=1e-8, rtol=0)


def _net(inputs: int, outputs: int) -> nn.Module:
    return ResidualNet(inputs, outputs, hidden_features=8, num_blocks=1)


NFLOWS: dict[str, Callable[[], nn.Module]] = {
    "spline coupling": lambda: transforms.PiecewiseRationalQuadraticCouplingTransform(
        create_alternating_binary_mask(3, even=True),
        _net,
        num_bins=4,
        tails="linear",
        tail_bound=3.0,
        apply_unconditional_transform=True,
    ),
    "IAF": lambda: transforms.InverseTransform(
        transforms.MaskedAffineAutoregressiveTransform(3, 8, num_blocks=1)
    ),
    "spline AR": lambda: transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        3, 8, num_bins=4, tails="linear", tail_bound=3.0, num_blocks=1
    ),
    "composite": lambda: transforms.CompositeTransform(
        [
            transforms.ActNorm(3).eval(),
            transforms.ReversePermutation(3),
            transforms.MaskedAffineAutoregressiveTransform(3, 8, num_blocks=1),
            transforms.HouseholderSequence(3, 2),
        ]
    ),
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_masked_maps_start_as_the_identity(dtype: torch.dtype) -> None:
    """The original starts by contracting each column to 0.69."""
    x = torch.randn(5, 3, dtype=dtype)
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


LINEAR_LAYERS = {"NaiveLinear": (4,), "LULinear": (4,), "QRLinear": (4, 4), "SVDLinear": (4, 4)}


@pytest.mark.filterwarnings("ignore:.*qr is deprecated")
@pytest.mark.parametrize("name", LINEAR_LAYERS)
def test_linear_layers_take_the_state_of_the_originals(name: str, normal: Normal) -> None:
    """And compute the same."""
    sizes = (4, False) if name == "NaiveLinear" else LINEAR_LAYERS[name]
    original = moved(getattr(transforms, name)(*sizes), normal)
    ours = getattr(nflows_compat, name)(*LINEAR_LAYERS[name]).double()
    ours.load_state_dict(original.state_dict(), strict=True)
    torch.testing.assert_close(ours(normal(3, 4)), original(normal(3, 4)))
    assert_bijection(ours, normal(3, 4))


@pytest.mark.parametrize("name", LINEAR_LAYERS)
def test_caches_follow_the_parameters(name: str, normal: Normal) -> None:
    """The original serves a stale weight, fails after float(), and in a second backward pass."""
    layer, x = (
        moved(getattr(nflows_compat, name)(*LINEAR_LAYERS[name]), normal).eval(),
        normal(5, 4),
    )
    layer.use_cache()
    with torch.no_grad():
        before = layer(x)[1]
        for parameter in layer.parameters():
            parameter += 0.1
        torch.testing.assert_close(layer(x)[1], layer.forward_no_cache(x)[1])
        assert not torch.allclose(layer(x)[1], before)
    for loss in [layer(x)[0].sum() for _ in range(2)]:
        loss.backward()
    assert layer.float()(x.float())[0].dtype == torch.float32
