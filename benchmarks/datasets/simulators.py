"""Simulators with a known density of their output: y given the parameters x, and x drawn before.

Rows are (y, x) in raw units. Tasks of Lueckmann, Boelts, Greenberg, Gonçalves and Macke,
Benchmarking simulation-based inference, 2021, arXiv:2101.04653: `gaussian_linear` (T.1), `slcp`
(T.3) and `two_moons` (T.8). The densities of the outputs are worked out here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from scipy.integrate import quad
from torch import Tensor

from benchmarks.datasets import Dataset, Loader, register
from benchmarks.datasets.drawn import drawn

_LOG_2PI = math.log(2 * math.pi)

COLUMNS = 10  # of the linear Gaussian
VARIANCE = 0.1  # of its parameters, and of its noise
BOUND, POINTS = 3.0, 4  # of SLCP: its parameters lie in [-3, 3], its output is four points
RADIUS, THICKNESS = 0.1, 0.01  # of a moon
OFFSET = 0.25  # of the middle of a moon's circle


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Uniform on [-1, 1]."""
    return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1


def _gaussian(x: Tensor, variance: float) -> Tensor:
    """Log density of N(0, variance I) at x: (n, d) -> (n,)."""
    return -0.5 * (x.square().sum(1) / variance + x.shape[1] * (_LOG_2PI + math.log(variance)))


def _gaussian_entropy(dim: int, variance: float) -> float:
    return 0.5 * dim * (1 + _LOG_2PI + math.log(variance))


def linear_sample(n: int, generator: torch.Generator) -> Tensor:
    """Rows (y, x): x ~ N(0, 0.1 I) and y ~ N(x, 0.1 I) in ten columns each, (n, 20)."""
    x, noise = VARIANCE**0.5 * _normal(generator, 2, n, COLUMNS)
    return torch.cat([x + noise, x], 1)


def linear_log_prob(rows: Tensor) -> Tensor:
    """Log density of y given x, nats: (n, 20) -> (n,)."""
    y, x = rows.chunk(2, 1)
    return _gaussian(y - x, VARIANCE)


def posterior_sample(n: int, generator: torch.Generator) -> Tensor:
    """The rows of `linear_sample` with the parameters first, which are to be inferred: (n, 20)."""
    return linear_sample(n, generator).roll(COLUMNS, 1)


def posterior_log_prob(rows: Tensor) -> Tensor:
    """Log density of the parameters given the output, N(output / 2, 0.05 I): (n, 20) -> (n,)."""
    parameters, output = rows.chunk(2, 1)
    return _gaussian(parameters - output / 2, VARIANCE / 2)


def slcp_sample(n: int, generator: torch.Generator) -> Tensor:
    """Rows (y, x): x ~ U(-3, 3)^5, and y four draws of a Gaussian in the plane, (n, 13).

    Its means are x_1 and x_2, its standard deviations x_3² and x_4², its correlation tanh x_5.
    """
    x = BOUND * _uniform(generator, n, 5)
    mean, deviation, rho = _slcp_moments(x)
    z = _normal(generator, n, POINTS, 2)
    second = rho * z[..., :1] + (1 - rho.square()).sqrt() * z[..., 1:]
    y = mean + deviation * torch.cat([z[..., :1], second], 2)
    return torch.cat([y.flatten(1), x], 1)


def _slcp_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means (n, 1, 2), standard deviations (n, 1, 2) and correlation (n, 1, 1)."""
    x = x[:, None]
    return x[..., :2], x[..., 2:4].square(), x[..., 4:].tanh()


def slcp_log_prob(rows: Tensor) -> Tensor:
    """Log density of y given x, nats: (n, 13) -> (n,)."""
    y, x = rows.split([2 * POINTS, 5], 1)
    mean, deviation, rho = _slcp_moments(x)
    u = (y.reshape(-1, POINTS, 2) - mean) / deviation
    rest = (u[..., 1:] - rho * u[..., :1]) * x[:, None, 4:].cosh()  # 1 / sqrt(1 - tanh²) = cosh
    squares: Tensor = (u[..., :1].square() + rest.square()).sum((1, 2))
    return -0.5 * squares - POINTS * (_LOG_2PI + _slcp_log_area(x))


def _slcp_log_area(x: Tensor) -> Tensor:
    """Half of the logarithm of the covariance's determinant: (n, 5) -> (n,)."""
    return x[:, 2:4].square().log().sum(1) - x[:, 4].cosh().log()


def slcp_entropy() -> float:
    """By E ln |x_3| = ln 3 - 1 and a quadrature of E ln cosh x_5, with an error below 1e-12."""
    cosh: float = quad(lambda t: math.log(math.cosh(t)) / BOUND, 0, BOUND, epsabs=1e-13)[0]
    return POINTS * (1 + _LOG_2PI + 4 * (math.log(BOUND) - 1) - cosh)


def moons_sample(n: int, generator: torch.Generator) -> Tensor:
    """Rows (y, x): x ~ U(-1, 1)², and y on a moon that x moves, (n, 4)."""
    x = _uniform(generator, n, 2)
    angle = 0.5 * math.pi * _uniform(generator, n, 1)
    radius = RADIUS + THICKNESS * _normal(generator, n, 1)
    return torch.cat([_centre(x) + radius * torch.cat([angle.cos(), angle.sin()], 1), x], 1)


def _centre(x: Tensor) -> Tensor:
    """The middle of the moon's circle: (n, 2) -> (n, 2)."""
    first, second = x.unbind(1)
    return torch.stack([OFFSET - (first + second).abs() / 2**0.5, (second - first) / 2**0.5], 1)


def moons_log_prob(rows: Tensor) -> Tensor:
    """Log density of y given x, nats: (n, 4) -> (n,).

    In polar coordinates about the middle, with a radius that is negative to its left: that of the
    radius, the angle's 1 / π, and the Jacobian's 1 / |radius|.
    """
    y, x = rows.chunk(2, 1)
    off = y - _centre(x)
    distance: Tensor = off.norm(dim=1)
    radius = torch.where(off[:, 0] < 0, -distance, distance)
    return _gaussian(radius[:, None] - RADIUS, THICKNESS**2) - (math.pi * distance).log()


def moons_entropy() -> float:
    """That of radius and angle, and E ln |radius| by quadrature, with an error below 1e-12."""

    def weighted(z: float) -> float:
        return math.log(RADIUS + THICKNESS * z) * math.exp(-0.5 * (z * z + _LOG_2PI))

    mean: float = quad(weighted, -9, 9, epsabs=1e-13)[0]
    return _gaussian_entropy(1, THICKNESS**2) + math.log(math.pi) + mean


class Simulator(NamedTuple):
    """A row of the table: sampler and log density of rows, entropy, columns of x, description."""

    sample: Callable[[int, torch.Generator], Tensor]
    log_prob: Callable[[Tensor], Tensor]
    entropy: float
    context_dim: int
    about: str


SIMULATORS = {
    "gaussian_linear": Simulator(
        linear_sample,
        linear_log_prob,
        _gaussian_entropy(COLUMNS, VARIANCE),
        COLUMNS,
        "Output of the linear Gaussian simulator given its ten parameters",
    ),
    "gaussian_linear_posterior": Simulator(
        posterior_sample,
        posterior_log_prob,
        _gaussian_entropy(COLUMNS, VARIANCE / 2),
        COLUMNS,
        "Parameters of the linear Gaussian simulator given its output",
    ),
    "slcp": Simulator(
        slcp_sample,
        slcp_log_prob,
        slcp_entropy(),
        5,
        "Output of SLCP (simple likelihood, complex posterior) given its five parameters",
    ),
    "two_moons": Simulator(
        moons_sample,
        moons_log_prob,
        moons_entropy(),
        2,
        "Output of the two-moons simulator, one moon, given its two parameters",
    ),
}


def simulated(name: str) -> Loader:
    """Return the loader of a simulator."""
    row = SIMULATORS[name]

    def load(root: Path | None, seed: int) -> Dataset:
        return drawn(
            name,
            seed,
            row.sample,
            f"{row.about} (arXiv:2101.04653)",
            log_prob=row.log_prob,
            entropy=row.entropy,
            context_dim=row.context_dim,
        )

    return load


for _name in SIMULATORS:
    register(_name, version=2)(simulated(_name))  # 2: columns of pictures
