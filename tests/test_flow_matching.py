"""Flow matching: its regression, its couplings, and the exact density of the field it fits."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from nflows.transforms import CompositeTransform, LULinear
from torch import Tensor, nn

import flows
from flows import Flow
from flows.bijection import parts
from flows.continuous import CNF, MLPField
from flows.continuous.flow_matching import FlowMatching, assignment
from flows.preprocessing import Whitening

Draw = Callable[..., Tensor]
COUPLINGS = ("independent", "optimal_transport")
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


class Best(nn.Module):
    """E[x₁ - x₀ | x_t] of data N(m, S) and independent noise N(0, I), and a shift that is wrong.

    x_t and x₁ - x₀ are jointly Gaussian: their means are t m and m, cov(x₁ - x₀, x_t) is
    t S - (1 - t) I and cov(x_t) is t² S + (1 - t)² I.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.mean, (self.values, self.vectors) = mean, torch.linalg.eigh(covariance)
        self.shift = nn.Parameter(torch.zeros_like(mean))
        self.tilt = nn.Parameter(torch.zeros_like(covariance))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        t = t[..., None]  # (1,) or (N, 1)
        slopes = (t * self.values - (1 - t)) / (t**2 * self.values + (1 - t) ** 2)
        along = (x - t * self.mean) @ self.vectors
        return self.mean + (slopes * along) @ self.vectors.T + self.shift + x @ self.tilt


def _gaussian(dim: int, normal: Draw) -> torch.distributions.MultivariateNormal:
    mean, factor = normal(dim, seed=1), normal(dim, dim, seed=2).tril(-1)
    factor = 0.5 * factor + torch.diag(torch.linspace(0.3, 1.5, dim, dtype=torch.float64))
    return torch.distributions.MultivariateNormal(mean, scale_tril=factor)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_best_field_has_the_density_of_the_data(dim: int, normal: Draw) -> None:
    """The ODE of the known optimal velocity carries N(0, I) to the data, and log p is exact."""
    data = _gaussian(dim, normal)
    field = Best(data.mean, data.covariance_matrix)
    flow = Flow(CNF(field, t0=1.0, t1=0.0, solver=TIGHT), dim=dim)
    x = data.mean + 3 * normal(50, dim, seed=3)
    torch.testing.assert_close(flow.log_prob(x), data.log_prob(x), atol=1e-7, rtol=1e-7)


def test_the_best_field_minimises_the_loss(normal: Draw) -> None:
    """The loss has no gradient at the conditional expectation, within its standard error."""
    data = _gaussian(2, normal)
    flow = FlowMatching(Best(data.mean, data.covariance_matrix), 2)
    gradients = []
    for _ in range(50):
        gradient = torch.autograd.grad(flow.loss(data.sample((2000,))), list(flow.parameters()))
        gradients.append(torch.cat([g.flatten() for g in gradient]))
    stacked = torch.stack(gradients)
    error = stacked.std(0) / len(stacked) ** 0.5
    assert bool((stacked.mean(0).abs() < 4 * error).all())
    assert bool((error < 0.05).all())


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("width", [0, 2])
def test_the_loss_is_its_formula(coupling: str, width: int, normal: Draw) -> None:
    """‖v(t, x_t) - (x₁ - x₀)‖², row by row, with the context of the row of data."""
    options = {"hidden": 8, "context_dim": width, "coupling": coupling, "time": "concatsquash"}
    flow = flows.build("flow_matching", 3, **options).double()
    x, context = normal(20, 3, seed=1), normal(20, width, seed=2) if width else None
    torch.manual_seed(5)
    loss = flow.loss(x, context)
    torch.manual_seed(5)
    noise, t = torch.randn(20, 3, dtype=torch.float64), torch.rand(20, dtype=torch.float64)
    noise = noise[assignment(x, noise)] if coupling == "optimal_transport" else noise
    total = 0.0
    for i in range(20):
        at = (1 - t[i]) * noise[i] + t[i] * x[i]
        inputs = (t[i], at[None]) if context is None else (t[i], at[None], context[i : i + 1])
        total += (flow.transform.field(*inputs)[0] - (x[i] - noise[i])).square().sum().item()
    assert loss.item() == pytest.approx(total / 20, rel=1e-12)
    loss.backward()
    assert all(bool(p.grad.abs().max() > 0) for p in flow.parameters())


def test_the_assignment_is_optimal(normal: Draw) -> None:
    """A permutation whose cost is the least of all, by trying them."""
    for seed in range(20):
        x, noise = 100 + 2 * normal(5, 3, seed=seed), normal(5, 3, seed=100 + seed)
        cost = torch.cdist(x, noise, compute_mode="donot_use_mm_for_euclid_dist").square()
        rows = torch.arange(5)
        least = min(cost[rows, list(p)].sum().item() for p in itertools.permutations(range(5)))
        order = assignment(x, noise)
        assert sorted(order.tolist()) == list(range(5))
        assert cost[rows, order].sum().item() == pytest.approx(least, rel=1e-12)
        assert least <= cost.trace().item()


def test_optimal_transport_shortens_the_way(normal: Draw) -> None:
    """In one dimension it pairs the data and the noise by their ranks."""
    x, noise = normal(100, 1, seed=1).exp(), normal(100, 1, seed=2)
    paired = noise[assignment(x, noise)]
    assert torch.equal(paired[:, 0].argsort(), x[:, 0].argsort())


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_loss_is_one_of_whitened_data(coupling: str, normal: Draw) -> None:
    """What is prepended, twice here, is run before the regression; the density counts it."""
    x = 5 + normal(200, 3, seed=1) @ normal(3, 3, seed=2)
    flow = flows.build("flow_matching", 3, hidden=8, coupling=coupling).double()
    first = Whitening.fit(x)
    second = Whitening(torch.ones(3).double(), 2 * torch.eye(3).double())
    white = second(first(x)[0])[0]
    torch.manual_seed(3)
    expected = flow.loss(white)
    whitened = flows.build("flow_matching", 3, hidden=8, coupling=coupling).double()
    whitened.load_state_dict(flow.state_dict())
    whitened.prepend(second).prepend(first)
    torch.manual_seed(3)
    assert whitened.loss(x).item() == pytest.approx(expected.item(), rel=1e-12)
    moved = flow.log_prob(white) + first(x)[1] + second(white)[1]
    torch.testing.assert_close(whitened.log_prob(x), moved, atol=1e-4, rtol=0)


def test_what_is_prepended_cannot_be_trained() -> None:
    """The regression would rather shrink the data."""
    flow = flows.build("flow_matching", 2).prepend(LULinear(2))
    with pytest.raises(ValueError, match=r"LULinear.*requires_grad_\(False\)"):
        flow.loss(torch.randn(5, 2))
    flow.transform.requires_grad_(False)
    assert bool(torch.isfinite(flow.loss(torch.randn(5, 2))))


def test_parts_are_in_the_order_from_the_data() -> None:
    """Nested composites are opened, in their order."""
    a, b, c = (LULinear(2) for _ in range(3))
    nested = CompositeTransform([a, CompositeTransform([b, CompositeTransform([c])])])
    assert parts(nested) == [a, b, c]
    assert parts(a) == [a]
    assert parts(CompositeTransform([])) == []


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_training_raises_the_exact_density(coupling: str, normal: Draw) -> None:
    """On a Gaussian away from the origin, against its own entropy."""
    data = _gaussian(2, normal)
    torch.manual_seed(0)
    flow = flows.build("flow_matching", 2, hidden=32, coupling=coupling).double()
    x = data.sample((2000,))
    with torch.no_grad():
        before = flow.log_prob(x).mean().item()
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        flow.loss(data.sample((128,))).backward()
        optimiser.step()
    with torch.no_grad():
        after = flow.log_prob(x).mean().item()
    best = data.log_prob(x).mean().item()
    assert before < best - 0.5
    assert best - 0.2 < after < best + 0.01


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_loss_solves_no_ode(coupling: str) -> None:
    """Neither forward nor backward; log_prob does."""
    flow = flows.build("flow_matching", 2, coupling=coupling)
    x = torch.randn(10, 2)
    with flows.count_nfe(flow) as nfe:
        flow.loss(x).backward()
    assert (nfe.forward, nfe.backward, nfe.solves) == (0, 0, [])
    with flows.count_nfe(flow) as nfe:
        flow.log_prob(x)
    assert nfe.forward > 0


def test_an_unknown_coupling_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'nearest'.*independent, optimal_transport"):
        flows.build("flow_matching", 2, coupling="nearest")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("n", [0, 1, 7])
def test_dtype_and_size_of_a_batch(dtype: torch.dtype, coupling: str, n: int) -> None:
    """The loss has the dtype of x; that of an empty batch is a mean of nothing, as elsewhere."""
    flow = flows.build("flow_matching", 3, coupling=coupling, hidden=4).to(dtype)
    loss = flow.loss(torch.randn(n, 3, dtype=dtype))
    assert loss.dtype == dtype
    assert loss.shape == ()
    assert bool(torch.isfinite(loss)) == (n > 0)


@pytest.mark.parametrize("time", ["ignore", "concat", "squash", "concatsquash", "hyper", "blend"])
def test_a_field_takes_a_time_for_each_row(time: str, normal: Draw) -> None:
    """What the regression asks of a field is what the ODE asks, at each row's own time."""
    field = MLPField(3, hidden=8, time=time, context_dim=2).double()
    t, x, context = normal(6, seed=1), normal(6, 3, seed=2), normal(6, 2, seed=3)
    together = field(t, x, context)
    alone = [field(t[i], x[i : i + 1], context[i : i + 1]) for i in range(6)]
    torch.testing.assert_close(together, torch.cat(alone))
