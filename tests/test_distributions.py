"""Any torch distribution as a Flow: its density, its samples, its conduct."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch import distributions as D

import flows
from flows.adapters.distributions import from_distribution


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


DISTRIBUTIONS: dict[str, Callable[[], D.Distribution]] = {
    "independent columns": lambda: D.Normal(_vector(0.0, 1.0, -1.0), _vector(1.0, 2.0, 0.5)),
    "a scalar": lambda: D.StudentT(torch.tensor(5.0, dtype=torch.float64)),
    "a full covariance": lambda: D.MultivariateNormal(
        _vector(1.0, -1.0), torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    ),
    "a mixture": lambda: D.MixtureSameFamily(
        D.Categorical(_vector(0.3, 0.7)),
        D.Independent(D.Normal(torch.eye(2, dtype=torch.float64) * 3, _vector(1.0, 0.7)), 1),
    ),
    "a transformed one": lambda: D.TransformedDistribution(
        D.Independent(D.Normal(_vector(0.0, 0.0), _vector(1.0, 1.0)), 1),
        [D.AffineTransform(_vector(1.0, 2.0), _vector(0.5, 3.0), event_dim=1)],
    ),
}


@pytest.mark.parametrize("label", DISTRIBUTIONS)
def test_it_conforms_and_is_the_same_density(label: str) -> None:
    """The kit passes in both dtypes; log_prob is the distribution's own."""
    distribution = DISTRIBUTIONS[label]()
    flow = from_distribution(distribution)
    result = flows.check(flow)
    assert result.passed, str(result)
    x = flow.sample(50)
    own = distribution.log_prob(x[:, 0] if distribution.batch_shape == () and flow.dim == 1 else x)
    own = own.sum(1) if own.dim() == 2 else own
    torch.testing.assert_close(flow.log_prob(x), own)
    narrow = flow.float()
    assert narrow.sample(3).dtype == torch.float32
    torch.testing.assert_close(narrow.log_prob(x.float()), own.float(), atol=1e-4, rtol=1e-4)


def test_outside_its_support_the_density_is_zero() -> None:
    """Not an error, as torch's own validation would have it."""
    flow = from_distribution(D.Gamma(torch.ones(2), torch.ones(2)))
    x = torch.tensor([[1.0, 2.0], [-1.0, 2.0]])
    assert flow.log_prob(x)[0].item() == pytest.approx(-3.0)
    assert flow.log_prob(x)[1].item() == -torch.inf


def test_samples_without_reparameterisation_have_no_gradient() -> None:
    """A mixture can be sampled, but not with a gradient."""
    flow = from_distribution(DISTRIBUTIONS["a mixture"]())
    assert flow.sample(4).shape == (4, 2)
    with pytest.raises(NotImplementedError, match="MixtureSameFamily"):
        flow.rsample_and_log_prob(4)


@pytest.mark.parametrize(
    ("distribution", "error", "message"),
    [
        (D.Poisson(torch.ones(2)), ValueError, "Poisson"),
        (D.Normal(torch.zeros(2, 3), 1.0), ValueError, r"batch shape \(2, 3\)"),
        (D.MultivariateNormal(torch.zeros(4, 2), torch.eye(2)), ValueError, r"batch shape \(4,\)"),
        (torch.nn.Identity(), TypeError, "Distribution.*Identity"),
    ],
)
def test_what_is_no_density_over_vectors_is_refused(distribution, error, message) -> None:
    """Discrete ones, batches over vectors, and what is no distribution."""
    with pytest.raises(error, match=message):
        from_distribution(distribution)


def test_it_is_fixed_whatever_its_parameters_hang_on() -> None:
    """Parameters with a graph are taken as they are now: nothing in the flow is trained."""
    location = torch.nn.Linear(1, 2)(torch.ones(1))
    flow = from_distribution(D.Normal(location, 1.0))
    assert not list(flow.parameters())
    assert not flow.log_prob(torch.zeros(3, 2)).requires_grad


@pytest.mark.parametrize("kind", [D.LogNormal, D.Gamma, D.Weibull])
def test_a_row_outside_the_support_spoils_no_other(kind: type[D.Distribution]) -> None:
    """Neither value nor gradient of the rows inside."""
    flow = from_distribution(kind(torch.ones(2), torch.full((2,), 2.0)))
    x = torch.tensor([[1.0, 2.0], [-1.0, 2.0]], requires_grad=True)
    log_prob = flow.log_prob(x)
    assert torch.isfinite(log_prob).tolist() == [True, False]
    log_prob[0].backward()
    assert bool(torch.isfinite(x.grad).all())
