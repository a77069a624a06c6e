"""Conditional data sets: the density of y given x has mass one, and the samples have it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from benchmarks import datasets
from benchmarks.datasets import drawn, simulators

CONDITIONAL = sorted(simulators.ABOUT)
N = 40_000


def _grid(centre: Tensor, half_width: float, points: int) -> tuple[Tensor, float]:
    """Points (n, 2) of a square grid, and the area of a cell."""
    line = torch.linspace(-half_width, half_width, points, dtype=torch.float64)
    cell = float(line[1] - line[0]) ** 2
    return centre + torch.cartesian_prod(line, line), cell


@pytest.mark.parametrize("seed", range(4))
def test_a_moon_has_mass_one(seed: int) -> None:
    """By quadrature in the plane, at several parameters."""
    x = simulators.moons_sample(1, torch.Generator().manual_seed(seed))[:, 2:]
    y, cell = _grid(simulators._centre(x), 0.2, 800)
    mass = simulators.moons_log_prob(torch.cat([y, x.expand(len(y), -1)], 1)).exp().sum() * cell
    assert mass.item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("x", [[0.5, -1, 1.5, 0.8, 0.3], [2, 1, -0.7, 2, -1.1], [0, 0, 1, 1, 0]])
def test_a_point_of_slcp_has_mass_one(x: list[float]) -> None:
    """Of the four points one moves over a grid, and three are at the mean, whose density is known.

    The four are independent, so that each has mass one if the four at the mean have the fourth
    power of the density of one there.
    """
    given = torch.tensor([x], dtype=torch.float64)
    mean, deviation, rho = given[:, :2], given[:, 2:4].square(), given[:, 4].tanh()
    peak = -math.log(2 * math.pi) - deviation.log().sum() - 0.5 * (1 - rho.square()).log().sum()
    line = torch.linspace(-9, 9, 301, dtype=torch.float64)
    offsets = torch.cartesian_prod(line, line)
    y = torch.cat([mean + deviation * offsets, mean.repeat(len(offsets), 3)], 1)
    log_prob = simulators.slcp_log_prob(torch.cat([y, given.expand(len(y), -1)], 1))
    cell = float(line[1] - line[0]) ** 2 * deviation.prod()
    assert ((log_prob - 3 * peak).exp().sum() * cell).item() == pytest.approx(1, abs=1e-9)


def test_a_gaussian_column_has_mass_one() -> None:
    """Of the output and of the posterior: the ten columns are independent and equal."""
    line = torch.linspace(-4, 4, 2001, dtype=torch.float64)
    for log_prob, centre in (
        (simulators.linear_log_prob, 0.7),
        (simulators.posterior_log_prob, 0.35),
    ):
        rows = torch.zeros(len(line), 20, dtype=torch.float64)
        rows[:, :10], rows[:, 10:] = centre, 0.7
        top = log_prob(rows[:1])
        rows[:, 0] = line
        mass = (log_prob(rows) - 0.9 * top).exp().sum() * (line[1] - line[0])
        assert mass.item() == pytest.approx(1, abs=1e-9)


def _uniforms_of_gaussians(rows: Tensor, centre: Callable[[Tensor], Tensor], variance: float):
    y, x = rows.chunk(2, 1)
    return torch.special.ndtr((y - centre(x)) / variance**0.5)


def _uniforms_of_slcp(rows: Tensor) -> Tensor:
    y, x = rows.split([8, 5], 1)
    u = (y.reshape(-1, 4, 2) - x[:, None, :2]) / x[:, None, 2:4].square()
    rho = x[:, None, 4].tanh()
    rest = (u[..., 1] - rho * u[..., 0]) / (1 - rho.square()).sqrt()
    return torch.special.ndtr(torch.cat([u[..., 0], rest], 1))


def _uniforms_of_moons(rows: Tensor) -> Tensor:
    off = rows[:, :2] - simulators._centre(rows[:, 2:])
    radius = torch.special.ndtr((off.norm(dim=1) - 0.1) / 0.01)
    return torch.stack([radius, torch.atan2(off[:, 1], off[:, 0]) / math.pi + 0.5], 1)


UNIFORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian_linear": lambda rows: _uniforms_of_gaussians(rows, lambda x: x, 0.1),
    "gaussian_linear_posterior": lambda rows: _uniforms_of_gaussians(rows, lambda x: x / 2, 0.05),
    "slcp": _uniforms_of_slcp,
    "two_moons": _uniforms_of_moons,
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_samples_have_the_density(name: str) -> None:
    """Probability integral transforms are uniform, each column by Kolmogorov and Smirnov.

    They are independent of x too: so they are where its first column is above its median.
    """
    data = datasets.load(name)
    assert data.sample is not None
    rows = data.sample(N, torch.Generator().manual_seed(5))
    assert rows.shape == (N, data.width)
    x = rows[:, data.dim]
    values = UNIFORMS[name](rows)
    for column, part in itertools.product(values.T, (x > x.median(), x <= x.median())):
        assert stats.kstest(column[part].numpy(), "uniform").pvalue > 1e-5


@pytest.mark.parametrize("name", CONDITIONAL)
def test_the_density_is_the_change_of_variables_of_its_uniforms(name: str) -> None:
    """log p(y | x) is log |det| of the derivative by y of the probability integral transform."""
    data = datasets.load(name)
    assert data.log_prob is not None
    rows = data.test[:5]
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: UNIFORMS[name](row[None])[0]))(rows)
    log_det = torch.linalg.slogdet(jacobian[:, :, : data.dim])[1]
    torch.testing.assert_close(data.log_prob(rows), log_det, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("context_dim", [-1, 3, 4])
def test_a_context_leaves_a_column_for_what_is_given_it(context_dim: int) -> None:
    loader = drawn("mine", "made up", lambda n, g: torch.randn(n, 3), context_dim=context_dim)
    with pytest.raises(ValueError, match=r"'mine'.*from 0 to 2"):
        loader(None, 0)
