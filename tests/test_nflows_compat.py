"""Each repair of an nflows transform beside the fault that it mends, and nflows as our equal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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


@pytest.fixture
def _warn_always() -> Iterator[None]:
    """torch gives some warnings once a process: here every time."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


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


def _random(transform: nn.Module, normal: Normal, spread: float = 0.3) -> nn.Module:
    """The transform with its parameters moved."""
    with torch.no_grad():
        for index, parameter in enumerate(transform.double().parameters()):
            parameter += spread * normal(*parameter.shape, seed=100 + index)
    return transform


def _check_bijection(transform: Any, x: Tensor, inverse: bool = True) -> None:
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


# ---- the repairs ------------------------------------------------------------------------------


def test_coupling_can_expand(normal: Normal) -> None:
    """The original's scale is at most 1.001, so its log-determinant cannot grow; ours can."""
    x = normal(50, 4)
    original = _coupling(transforms.AffineCouplingTransform)
    ours = _coupling(nflows_compat.AffineCouplingTransform)
    ceiling = 2 * math.log(1.001)  # two of the four columns are scaled
    assert original.forward(x)[1].max().item() <= ceiling + 1e-12
    assert ours.forward(x)[1].min().item() > 2
    _check_bijection(ours, x[:3])


@pytest.mark.parametrize("value", [-1e6, -3.0, 0.0, 3.0, 1e6])
def test_couplings_scale_is_bounded(value: float) -> None:
    """exp(2 tanh(u/2)): one at zero, symmetric in the logarithm, within e±2."""
    coupling = _coupling(nflows_compat.AffineCouplingTransform)
    parameters = torch.full((1, 4), value, dtype=torch.float64)
    scale, shift = coupling._scale_and_shift(parameters)
    torch.testing.assert_close(scale, torch.exp(2 * torch.tanh(parameters[:, :2] / 2)))
    assert bool((scale >= math.exp(-2) - 1e-12).all() & (scale <= math.exp(2) + 1e-12).all())
    assert bool((shift == value).all())


@pytest.mark.usefixtures("_warn_always")
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
    _random(ours, normal)
    _check_bijection(ours, normal(3, 4))
    inverse, logabsdet = ours.weight_inverse_and_logabsdet()
    torch.testing.assert_close(inverse @ ours.weight(), torch.eye(4).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(logabsdet, torch.linalg.slogdet(ours.weight())[1])


@pytest.mark.usefixtures("_warn_always")
def test_lu_linear_is_of_today(normal: Normal) -> None:
    """The original warns when it inverts; ours inverts silently, in float64 too."""
    x = normal(3, 4)
    original = _random(transforms.LULinear(4), normal)
    with pytest.warns(UserWarning, match="triangular_solve is deprecated"):
        reference = original.inverse(x)[0]
    ours = nflows_compat.LULinear(4).double()
    ours.load_state_dict(original.state_dict(), strict=True)
    torch.testing.assert_close(ours.inverse(x)[0], reference)
    _check_bijection(ours, x)


@pytest.mark.filterwarnings("ignore:.*triangular_solve is deprecated")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_lu_linears_inverse_weight_keeps_its_dtype(dtype: torch.dtype, normal: Normal) -> None:
    """The original builds its identity in float32 and fails in float64."""
    original = _random(transforms.LULinear(4), normal).to(dtype)
    if dtype == torch.float64:
        with pytest.raises(RuntimeError, match=r"dtype|type"):
            original.weight_inverse()
    ours = nflows_compat.LULinear(4).to(dtype)
    ours.load_state_dict(original.state_dict())
    inverse = ours.weight_inverse()
    assert inverse.dtype == dtype
    torch.testing.assert_close(inverse @ ours.weight(), torch.eye(4, dtype=dtype))


def test_actnorm_initialises_when_told(normal: Normal) -> None:
    """The original sets itself in its first training pass; ours in ``initialize`` alone."""
    x = 5 * normal(100, 3) + 2
    original, ours = transforms.ActNorm(3).double(), nflows_compat.ActNorm(3).double()
    assert not torch.allclose(original.train().forward(x)[0], x)
    torch.testing.assert_close(ours.train().forward(x)[0], x)
    ours.initialize(x)
    torch.testing.assert_close(ours.forward(x)[0], original.forward(x)[0])
    ours.initialize(2 * x)  # told again, set again
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
        with pytest.raises(ValueError, match=f"at least two rows to initialise, got {rows}"):
            ours.initialize(x[:rows])


@pytest.mark.usefixtures("_warn_always")
def test_qr_linear_is_of_today(normal: Normal) -> None:
    """The original warns when it inverts and cannot tell its inverse in float64; ours does both."""
    original = _random(transforms.QRLinear(4, 4), normal)
    with pytest.warns(UserWarning, match="triangular_solve is deprecated"):
        reference = original.inverse(normal(3, 4))[0]
    with pytest.raises(RuntimeError, match=r"dtype|type"):
        original.weight_inverse()
    ours = nflows_compat.QRLinear(4, 4).double()
    ours.load_state_dict(original.state_dict(), strict=True)
    torch.testing.assert_close(ours.inverse(normal(3, 4))[0], reference)
    _check_bijection(ours, normal(3, 4))
    inverse = ours.weight_inverse()
    torch.testing.assert_close(inverse @ ours.weight(), torch.eye(4).double(), atol=1e-10, rtol=0)


def test_householder_sequences_keep_dtype_and_length(normal: Normal) -> None:
    """The original's matrix fails in float64, and too many reflections have length zero."""
    original = transforms.HouseholderSequence(3, 4).double()
    with pytest.raises(RuntimeError, match=r"dtype|type"):
        original.matrix()
    ours = _random(nflows_compat.HouseholderSequence(3, 4), normal)
    torch.testing.assert_close(ours.matrix() @ ours.matrix().T, torch.eye(3).double())
    torch.testing.assert_close(ours.forward(normal(5, 3))[0], normal(5, 3) @ ours.matrix().T)
    too_many = transforms.HouseholderSequence(2, 6).double()
    assert not bool(torch.isfinite(too_many.forward(normal(5, 2))[0]).all())
    with pytest.raises(ValueError, match="6 reflections are more than twice the 2 columns"):
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
        layer = _random(CACHED[name](module), normal).eval()
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
    original = _random(transforms.LULinear(4), normal).eval()
    original.use_cache()
    original(normal(5, 4))[0].sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        original(normal(5, 4))[0].sum().backward()


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
    with pytest.raises(ValueError, match=r"BatchNorm cannot scale columns \[0, 1, 2\]"):
        ours.initialize(torch.ones(9, 3).double())


def test_sampling_in_float64() -> None:
    """nflows' own Flow cannot sample after double(); ours can, of the same transform."""
    made = transforms.MaskedAffineAutoregressiveTransform(3, 8)
    theirs = NflowsFlow(made, StandardNormal([3])).double()
    with pytest.raises(RuntimeError, match=r"dtype|type"):
        theirs.sample(4)
    assert Flow(made, dim=3).sample(4).dtype == torch.float64


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


@pytest.mark.usefixtures("_warn_always")
def test_no_deprecated_call_is_left(make_flow: Any) -> None:
    """Density, samples and gradients of every flow built on nflows, with each warning an error."""
    ours = [n for n in flows.names() if flows.members.module_of(n).startswith("flows.discrete")]
    cases = [(name, {}) for name in ours] + [("glow", {"linear": name}) for name in LINEAR]
    for name, options in cases:
        sizes = flows.members[name].applicable({"hidden": 8, "layers": 2})
        flow = make_flow(name, 4, **sizes, **options)
        x, log_prob = flow.rsample_and_log_prob(5)
        (flow.log_prob(x) - log_prob).sum().backward()


# ---- nflows as our equal ----------------------------------------------------------------------


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
    transform = _random(NFLOWS[name](), normal)
    flow = Flow(transform, dim=3)
    x = normal(5, 3)
    reference = NflowsFlow(transform, StandardNormal([3])).log_prob(x)
    torch.testing.assert_close(flow.log_prob(x), reference)
    _check_bijection(transform, x)
    sample, log_prob = flow.rsample_and_log_prob(6)
    torch.testing.assert_close(flow.log_prob(sample), log_prob, atol=1e-8, rtol=0)
    torch.testing.assert_close(flow.using(noise=1).log_prob(x), flow.log_prob(x))


@pytest.mark.parametrize("conditional", [False, True])
def test_a_cnf_is_an_nflows_transform(conditional: bool, normal: Normal) -> None:
    """Inside nflows' Flow, among nflows' transforms, with and without a context: our log_prob."""
    field = MLPField(3, hidden=8, context_dim=2 if conditional else 0)
    cnf = _random(CNF(field, solver={"rtol": 1e-9, "atol": 1e-9}), normal)
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
