"""Simulators whose output y has an exact density given the parameters x.

Rows are (y, x) in raw units; log densities are of y given x, nats: (n, width) -> (n,). Tasks of
Lueckmann, Boelts, Greenberg, Gonçalves and Macke, Benchmarking simulation-based inference, 2021,
arXiv:2101.04653: `gaussian_linear` (T.1), `slcp` (T.3) and `two_moons` (T.8). The densities of the
outputs are worked out here.
"""

import math
from functools import partial
from typing import Any

import torch
from scipy.integrate import quad
from torch import Tensor

from benchmarks.datasets import drawn, normal, register, uniform

LOG_2PI = math.log(2 * math.pi)

COLUMNS = 10  # of the linear Gaussian
VARIANCE = 0.1  # of its parameters, and of its noise
BOUND, POINTS = 3.0, 4  # of SLCP: its parameters lie in [-3, 3], its output is four points
RADIUS, THICKNESS = 0.1, 0.01  # of a moon
OFFSET = 0.25  # of the middle of a moon's circle


def _gaussian(x: Tensor, variance: float) -> Tensor:
    """Log density of N(0, variance I) at x: (n, d) -> (n,)."""
    return -0.5 * (x.square().sum(1) / variance + x.shape[1] * (LOG_2PI + math.log(variance)))


def _gaussian_entropy(dim: int, variance: float) -> float:
    return 0.5 * dim * (1 + LOG_2PI + math.log(variance))


def linear_sample(n: int, generator: torch.Generator) -> Tensor:
    """Rows (y, x): x ~ N(0, 0.1 I) and y ~ N(x, 0.1 I) in ten columns each, (n, 20)."""
    x, noise = VARIANCE**0.5 * normal(generator, 2, n, COLUMNS)
    return torch.cat([x + noise, x], 1)


def linear_log_prob(rows: Tensor) -> Tensor:
    y, x = rows.chunk(2, 1)
    return _gaussian(y - x, VARIANCE)


def posterior_sample(n: int, generator: torch.Generator) -> Tensor:
    """The rows of `linear_sample` with the parameters first, which are to be inferred: (n, 20)."""
    return linear_sample(n, generator).roll(COLUMNS, 1)


def posterior_log_prob(rows: Tensor) -> Tensor:
    """Log density of the parameters given the output, N(output / 2, 0.05 I)."""
    parameters, output = rows.chunk(2, 1)
    return _gaussian(parameters - output / 2, VARIANCE / 2)


def slcp_sample(n: int, generator: torch.Generator) -> Tensor:
    """Rows (y, x): x ~ U(-3, 3)^5, and y four draws of a Gaussian in the plane, (n, 13).

    Its means are x_1 and x_2, its standard deviations x_3² and x_4², its correlation tanh x_5.
    """
    x = BOUND * (2 * uniform(generator, n, 5) - 1)
    mean, deviation, rho = _slcp_moments(x)
    z = normal(generator, n, POINTS, 2)
    second = rho * z[..., :1] + (1 - rho.square()).sqrt() * z[..., 1:]
    y = mean + deviation * torch.cat([z[..., :1], second], 2)
    return torch.cat([y.flatten(1), x], 1)


def _slcp_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means (n, 1, 2), standard deviations (n, 1, 2) and correlation (n, 1, 1)."""
    x = x[:, None]
    return x[..., :2], x[..., 2:4].square(), x[..., 4:].tanh()


def slcp_log_prob(rows: Tensor) -> Tensor:
    y, x = rows.split([2 * POINTS, 5], 1)
    mean, deviation, rho = _slcp_moments(x)
    u = (y.reshape(-1, POINTS, 2) - mean) / deviation
    rest = (u[..., 1:] - rho * u[..., :1]) * x[:, None, 4:].cosh()  # 1 / sqrt(1 - tanh²) = cosh
    squares = (u[..., :1].square() + rest.square()).sum((1, 2))
    log_area = x[:, 2:4].square().log().sum(1) - x[:, 4].cosh().log()
    log_prob: Tensor = -0.5 * squares - POINTS * (LOG_2PI + log_area)
    return log_prob


def slcp_entropy() -> float:
    """By E ln |x_3| = ln 3 - 1 and a quadrature of E ln cosh x_5, with an error below 1e-12."""
    cosh: float = quad(lambda t: math.log(math.cosh(t)) / BOUND, 0, BOUND, epsabs=1e-13)[0]
    return POINTS * (1 + LOG_2PI + 4 * (math.log(BOUND) - 1) - cosh)


def moons_sample(n: int, generator: torch.Generator) -> Tensor:
    """Rows (y, x): x ~ U(-1, 1)², and y on a moon that x moves, (n, 4)."""
    x = 2 * uniform(generator, n, 2) - 1
    angle = 0.5 * math.pi * (2 * uniform(generator, n, 1) - 1)
    radius = RADIUS + THICKNESS * normal(generator, n, 1)
    return torch.cat([_centre(x) + radius * torch.cat([angle.cos(), angle.sin()], 1), x], 1)


def _centre(x: Tensor) -> Tensor:
    """The middle of the moon's circle: (n, 2) -> (n, 2)."""
    first, second = x.unbind(1)
    return torch.stack([OFFSET - (first + second).abs() / 2**0.5, (second - first) / 2**0.5], 1)


def moons_log_prob(rows: Tensor) -> Tensor:
    """Log density of y given x, in polar coordinates about the middle of the moon's circle.

    The radius is negative to its left. The factors are the density of the radius, 1 / π of the
    angle, and 1 / |radius| of the Jacobian.
    """
    y, x = rows.chunk(2, 1)
    off = y - _centre(x)
    distance: Tensor = off.norm(dim=1)
    radius = torch.where(off[:, 0] < 0, -distance, distance)
    return _gaussian(radius[:, None] - RADIUS, THICKNESS**2) - (math.pi * distance).log()


def moons_entropy() -> float:
    """Entropy of radius and angle, and E ln |radius| by quadrature, with an error below 1e-12."""

    def weighted(z: float) -> float:
        return math.log(RADIUS + THICKNESS * z) * math.exp(-0.5 * (z * z + LOG_2PI))

    mean: float = quad(weighted, -9, 9, epsabs=1e-13)[0]
    return _gaussian_entropy(1, THICKNESS**2) + math.log(math.pi) + mean


ABOUT = {
    "gaussian_linear": "Output of the linear Gaussian simulator given its ten parameters",
    "gaussian_linear_posterior": "Parameters of the linear Gaussian simulator given its output",
    "slcp": "Output of SLCP (simple likelihood, complex posterior) given its five parameters",
    "two_moons": "Output of the two-moons simulator, one moon, given its two parameters",
}


def _register(name: str, context_dim: int, *density: Any) -> None:
    about = f"{ABOUT[name]} (arXiv:2101.04653)"
    loader = drawn(name, about, *density, context_dim=context_dim)
    register(name, version=2)(loader)  # 2: columns of pictures


_linear, _posterior = (partial(_gaussian_entropy, COLUMNS, v) for v in (VARIANCE, VARIANCE / 2))
_register("gaussian_linear", COLUMNS, linear_sample, linear_log_prob, _linear)
_register("gaussian_linear_posterior", COLUMNS, posterior_sample, posterior_log_prob, _posterior)
_register("slcp", 5, slcp_sample, slcp_log_prob, slcp_entropy)
_register("two_moons", 2, moons_sample, moons_log_prob, moons_entropy)
