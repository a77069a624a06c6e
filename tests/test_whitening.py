"""Whitening is a counted affine bijection."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import flows
from flows import Flow
from flows.whitening import Whitening

Normal = Callable[..., Tensor]


def _data(normal: Normal, dim: int = 3) -> Tensor:
    mixing = normal(dim, dim, seed=1) + 2 * torch.eye(dim)
    return normal(400, dim) @ mixing.T * torch.logspace(-3, 3, dim).double() + 10


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_it_standardises(dim: int, normal: Normal) -> None:
    """Mean zero and covariance one on the data it was fitted to."""
    x = _data(normal, dim)
    z, _ = Whitening.fit(x)(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(dim).double(), atol=1e-9, rtol=0)
    covariance = z.T.cov().reshape(dim, dim)
    torch.testing.assert_close(covariance, torch.eye(dim).double(), atol=1e-9, rtol=0)


def test_its_log_determinant_is_counted(normal: Normal) -> None:
    """With standard normal noise the density is that of the fitted Gaussian itself."""
    x = _data(normal)
    flow = Flow(Whitening.fit(x), dim=3, context_dim=0)
    gaussian = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov())
    torch.testing.assert_close(flow.log_prob(x), gaussian.log_prob(x), atol=1e-9, rtol=0)
    jacobian = torch.autograd.functional.jacobian(lambda row: flow.to_noise(row[None])[0], x[0])
    ladj = flow.transform(x)[1]
    torch.testing.assert_close(ladj, torch.linalg.slogdet(jacobian)[1].expand(len(x)))


def test_it_round_trips(normal: Normal) -> None:
    """Both directions, and samples agree with log_prob; an empty batch passes."""
    x = _data(normal)
    whitening = Whitening.fit(x)
    z, ladj = whitening(x)
    back, opposite = whitening.inverse(z)
    torch.testing.assert_close(back, x, atol=1e-9, rtol=1e-12)
    torch.testing.assert_close(ladj + opposite, torch.zeros(len(x)).double(), atol=1e-12, rtol=0)
    sample, log_prob = Flow(whitening, dim=3).rsample_and_log_prob(20)
    torch.testing.assert_close(Flow(whitening, dim=3).log_prob(sample), log_prob)
    assert whitening(x[:0])[0].shape == (0, 3)
    assert whitening.inverse(x[:0])[1].shape == (0,)


@pytest.mark.parametrize("name", flows.names())
def test_prepend_composes(name: str, normal: Normal) -> None:
    """After ``prepend`` the density is that of the raw data: log p(w(x)) + ladj(w)."""
    x = _data(normal)[:8]
    whitening = Whitening.fit(_data(normal))
    flow = flows.build(name, 3, **flows.members[name].applicable({"hidden": 8})).double()
    z, ladj = whitening(x)
    inner = flow.using(noise=1).log_prob(z)
    assert flow.prepend(whitening) is flow
    flow = flow.using(noise=1)
    torch.testing.assert_close(flow.log_prob(x), inner + ladj)
    back = flow.transform.inverse(flow.to_noise(x))[0]
    torch.testing.assert_close(back, x, atol=1e-2, rtol=1e-3)
    assert not any("factor" in parameter for parameter, _ in flow.named_parameters())
    assert {key for key in flow.state_dict() if key.endswith(("mean", "factor"))}
    flow.initialize(_data(normal))


def test_dtype_follows_the_data(normal: Normal) -> None:
    """Fitted in float64, kept in the dtype of the data."""
    x = normal(100, 2, dtype=torch.float32)
    z, ladj = Whitening.fit(x)(x)
    assert z.dtype == ladj.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_singular_covariances_are_refused(dtype: torch.dtype, shift: float, normal: Normal) -> None:
    """A constant column, and one that others determine up to rounding, whatever the rounding."""
    x = normal(300, 2) + shift
    for share in (1 / 3, 0.1, 0.7, 3.3):
        for last in (
            torch.full((300, 1), share).double(),
            x[:, :1] * share,
            x @ x.new_tensor([[share], [1.0]]),
        ):
            with pytest.raises(ValueError, match="column 2"):
                Whitening.fit(torch.cat([x, last], 1).to(dtype))


def test_a_small_but_real_column_is_kept(normal: Normal) -> None:
    """Strong correlation and small units are no singularity."""
    x = normal(300, 2)
    near = torch.cat([x, x.sum(1, keepdim=True) + 1e-4 * normal(300, 1, seed=5)], 1)
    for data, tolerance in ((near, 1e-6), (near * 1e-12, 1e-6), (near.float(), 0.05)):
        z, _ = Whitening.fit(data)(data)
        deviation = (z.double().T.cov() - torch.eye(3)).abs().max().item()
        assert deviation < tolerance


def test_too_few_rows_and_values_that_are_not_finite(normal: Normal) -> None:
    """Both are named."""
    with pytest.raises(ValueError, match=r"3 columns.* 3"):
        Whitening.fit(normal(3, 3))
    x = normal(10, 3)
    x[0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        Whitening.fit(x)
