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
    with pytest.warns(UserWarning, match="qr is deprecated"):
        original = transforms.NaiveLinear(4)
    with pytest.raises((AttributeError, RuntimeError), match="solve"):
        original.inverse(torch.zeros(2, 4))
    ours = nflows_compat.NaiveLinear(4).double()
    weight = ours._weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(4).double(), atol=1e-6, rtol=0)
    _random(ours, normal)
    _check_bijection(ours, normal(3, 4))
    inverse, logabsdet = ours.weight_inverse_and_logabsdet()
    torch.testing.assert_close(inverse @ ours._weight, torch.eye(4).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(logabsdet, torch.linalg.slogdet(ours._weight)[1])


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
def test_no_deprecated_call_is_left(make_flow: Any) -> None:
    """Density, samples and gradients of every flow built on nflows, with each warning an error."""
    for name, options in (("realnvp", {}), ("glow", {}), ("glow", {"linear": "naive"})):
        flow = make_flow(name, 4, hidden=8, layers=2, **options)
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
