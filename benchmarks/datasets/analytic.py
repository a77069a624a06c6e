"""Densities with a formula in any dimension, so that the error of a flow can be measured.

`loader(family, dim)` loads a family at any D; names such as `gaussian_8` are registered at the D of
`DIMS`. Another D is one line of a plug-in, `register("funnel_100")(loader("funnel", 100))`. Raw
units, 50,000 / 5,000 / 20,000 rows; `Dataset.sample` draws fresh ones. Samplers return (n, dim),
log densities are (n, D) -> (n,), nats.

Sources: the funnel is Neal's (Slice Sampling, 2003, §8), x given v narrower by e^(v/2) at its neck;
the banana is the twist of Haario, Saksman and Tamminen (Adaptive proposal distribution, 1999) in
pairs of coordinates; the rest are textbook formulas.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.datasets import Loader, drawn, normal, register

DIMS = (2, 3, 4, 6, 8, 12, 16, 32, 64)  # dimensions with registered names
ROWS = {"train": 50_000, "val": 5_000, "test": 20_000}

CORRELATION = 0.8  # of neighbouring coordinates of the gaussian; rho^|i - j| of any two
MODES, RADIUS = 5, 4.0  # of the mixture: unit Gaussians, centres on a circle
NECK = 3.0  # standard deviation of the funnel's first coordinate
WIDTH = 0.5  # of the banana: standard deviation across it
FREEDOM = 5  # degrees of freedom of student_t, whose fourth moments are finite

LOG_2PI = math.log(2 * math.pi)


def _standard(z: Tensor) -> Tensor:
    """Log density of N(0, I) at z: (n, d) -> (n,)."""
    return -0.5 * (z.square().sum(dim=1) + z.shape[1] * LOG_2PI)


def gaussian_sample(dim: int, n: int, generator: torch.Generator) -> Tensor:
    """N(0, R) with R_ij = rho^|i - j|: each coordinate from the one before."""
    columns = list(normal(generator, dim, n))
    for i in range(1, dim):
        columns[i] = CORRELATION * columns[i - 1] + math.sqrt(1 - CORRELATION**2) * columns[i]
    return torch.stack(columns, dim=1)


def gaussian_log_prob(x: Tensor) -> Tensor:
    spread = math.sqrt(1 - CORRELATION**2)
    z = torch.cat((x[:, :1], (x[:, 1:] - CORRELATION * x[:, :-1]) / spread), dim=1)
    return _standard(z) - (x.shape[1] - 1) * math.log(spread)


def gaussian_entropy(dim: int) -> float:
    """Half of ln det(2 pi e R), with det R = (1 - rho^2)^(D - 1)."""
    return 0.5 * (dim * (1 + LOG_2PI) + (dim - 1) * math.log(1 - CORRELATION**2))


@cache
def centres(dim: int) -> Tensor:
    """Return the mixture's centres: a regular pentagon about 0 in a plane off the axes, (5, D).

    The plane is spanned by the constant and the linear direction; at D = 1 only a line remains.
    """
    line = torch.arange(dim, dtype=torch.float64) - (dim - 1) / 2
    plane = torch.stack((torch.ones_like(line), line))
    plane = plane / plane.norm(dim=1, keepdim=True).clamp(min=1e-300)
    angle = torch.arange(MODES, dtype=torch.float64) * (2 * math.pi / MODES)
    pentagon: Tensor = RADIUS * torch.stack((angle.cos(), angle.sin()), dim=1) @ plane
    return pentagon


def mixture_sample(dim: int, n: int, generator: torch.Generator) -> Tensor:
    """One of equally likely centres plus N(0, I)."""
    k = torch.randint(MODES, (n,), generator=generator)
    return centres(dim)[k] + normal(generator, n, dim)


def mixture_log_prob(x: Tensor) -> Tensor:
    component_log_densities = [_standard(x - centre) for centre in centres(x.shape[1]).to(x)]
    return torch.stack(component_log_densities).logsumexp(dim=0) - math.log(MODES)


@cache
def mixture_entropy(dim: int, step: float = 0.25, half_width: float = 14.0) -> float:
    """By the trapezoid rule in the plane of the centres; across it the density is N(0, I).

    The rule converges geometrically for such a function: the error is below 1e-10 (tested).
    """
    inner = min(dim, 2)
    line = step * torch.arange(-round(half_width / step), round(half_width / step) + 1).double()
    log_p = mixture_log_prob(torch.cartesian_prod(*[line] * inner).reshape(-1, inner))
    in_plane = -(step**inner) * float((log_p.exp() * log_p).sum())
    return in_plane + 0.5 * (dim - inner) * (1 + LOG_2PI)


def funnel_sample(dim: int, n: int, generator: torch.Generator) -> Tensor:
    """v ~ N(0, 3^2), then D - 1 coordinates N(0, e^v) given v."""
    z = normal(generator, n, dim)
    v = NECK * z[:, :1]
    return torch.cat((v, (v / 2).exp() * z[:, 1:]), dim=1)


def funnel_log_prob(x: Tensor) -> Tensor:
    v = x[:, :1]
    z = torch.cat((v / NECK, x[:, 1:] * (-v / 2).exp()), dim=1)
    return _standard(z) - math.log(NECK) - (x.shape[1] - 1) * v[:, 0] / 2


def funnel_entropy(dim: int) -> float:
    """Entropy of N(0, I) and ln 3: ln of the widths, v / 2 each, has mean zero."""
    return 0.5 * dim * (1 + LOG_2PI) + math.log(NECK)


def banana_sample(dim: int, n: int, generator: torch.Generator) -> Tensor:
    """Pairs (a, a^2 - 1 + b / 2), a and b N(0, 1); an odd last coordinate is N(0, 1)."""
    x = normal(generator, n, dim)
    bent = x[:, 1::2]
    bent.copy_(x[:, : 2 * bent.shape[1] : 2].square() - 1 + WIDTH * bent)
    return x


def banana_log_prob(x: Tensor) -> Tensor:
    bent, straight = x[:, 1::2], x[:, ::2]
    b = (bent - straight[:, : bent.shape[1]].square() + 1) / WIDTH
    return _standard(torch.cat((straight, b), dim=1)) - bent.shape[1] * math.log(WIDTH)


def banana_entropy(dim: int) -> float:
    """Entropy of N(0, I) and ln(1/2) a pair: the twist keeps volumes."""
    return 0.5 * dim * (1 + LOG_2PI) + dim // 2 * math.log(WIDTH)


def student_t_sample(dim: int, n: int, generator: torch.Generator) -> Tensor:
    """z sqrt(5 / chi^2_5), z ~ N(0, I), one chi^2 a row."""
    chi2 = normal(generator, n, FREEDOM).square().sum(dim=1, keepdim=True)
    return normal(generator, n, dim) * (FREEDOM / chi2).sqrt()


def student_t_log_prob(x: Tensor) -> Tensor:
    power = (FREEDOM + x.shape[1]) / 2
    return _student_t_top(x.shape[1]) - power * torch.log1p(x.square().sum(dim=1) / FREEDOM)


def student_t_entropy(dim: int) -> float:
    """By digammas (Zografos and Nadarajah, 2005)."""
    ends = torch.tensor([(FREEDOM + dim) / 2, FREEDOM / 2], dtype=torch.float64).digamma()
    return (FREEDOM + dim) / 2 * float(ends[0] - ends[1]) - _student_t_top(dim)


def _student_t_top(dim: int) -> float:
    gammas = math.lgamma((FREEDOM + dim) / 2) - math.lgamma(FREEDOM / 2)
    return gammas - dim / 2 * math.log(FREEDOM * math.pi)


class Family(NamedTuple):
    """A row of the table: sampler, exact log density, entropy (nats), and centres of modes."""

    sample: Callable[[int, int, torch.Generator], Tensor]
    log_prob: Callable[[Tensor], Tensor]
    entropy: Callable[[int], float]
    modes: Callable[[int], Tensor] | None = None


FAMILIES = {
    "gaussian": Family(gaussian_sample, gaussian_log_prob, gaussian_entropy),
    "mixture": Family(mixture_sample, mixture_log_prob, mixture_entropy, centres),
    "funnel": Family(funnel_sample, funnel_log_prob, funnel_entropy),
    "banana": Family(banana_sample, banana_log_prob, banana_entropy),
    "student_t": Family(student_t_sample, student_t_log_prob, student_t_entropy),
}
ABOUT = {
    "gaussian": f"Gaussian, unit variances, correlation {CORRELATION}^|i - j|",
    "mixture": f"{MODES} unit Gaussians, each as likely, centres on a circle of radius {RADIUS:g} "
    "(entropy by quadrature, error below 1e-10)",
    "funnel": f"Neal's funnel: v ~ N(0, {NECK:g}²), the others N(0, e^v)",
    "banana": f"Pairs (a, a² - 1 + {WIDTH:g} b) of standard normal a, b",
    "student_t": f"Multivariate Student t, {FREEDOM} degrees of freedom, unit scale",
}


def loader(family: str, dim: int) -> Loader:
    """Return the loader of a family at a dimension; ValueError for an unknown family or D < 1."""
    if family not in FAMILIES:
        raise ValueError(f"unknown density {family!r}; choose from: {', '.join(FAMILIES)}")
    if dim < 1:
        raise ValueError(f"{family} needs a dimension from 1, got {dim}")
    row, name = FAMILIES[family], f"{family}_{dim}"
    sample, entropy = partial(row.sample, dim), partial(row.entropy, dim)
    modes = row.modes(dim) if row.modes else None
    return drawn(name, ABOUT[family], sample, row.log_prob, entropy, modes=modes, rows=ROWS)


register("mixture_1", dim=1)(loader("mixture", 1))
for _family in FAMILIES:
    for _dim in DIMS:
        register(f"{_family}_{_dim}", dim=_dim)(loader(_family, _dim))
