"""A grid of 25 Gaussians, which shows mode dropping.

Source: Lin, Khetan, Fanti and Oh, PacGAN: The power of two samples in generative adversarial
networks, 2018, arXiv:1712.04086: means (-4 + 2i, -4 + 2j), variance 0.0025. Raw units.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.datasets import Dataset, register
from benchmarks.datasets.drawn import drawn

SPREAD = 0.05
_LINE = torch.arange(-4.0, 5.0, 2.0, dtype=torch.float64)
CENTRES = torch.cartesian_prod(_LINE, _LINE)

# The modes are 40 standard deviations apart: their overlap is below 1e-80 nats.
ENTROPY = math.log(len(CENTRES)) + math.log(2 * math.pi * math.e * SPREAD**2)


def sample(n: int, generator: torch.Generator) -> Tensor:
    """One of equally likely centres plus N(0, 0.05^2 I): (n, 2)."""
    k = torch.randint(len(CENTRES), (n,), generator=generator)
    return CENTRES[k] + SPREAD * torch.randn(n, 2, generator=generator, dtype=torch.float64)


def log_prob(x: Tensor) -> Tensor:
    """Exact log density, nats: (n, 2) -> (n,). Of a product grid, so a line at a time."""
    square = (x[:, :, None] - _LINE.to(x)).square()
    axis_log_densities = torch.logsumexp(-square / (2 * SPREAD**2), dim=2)
    return axis_log_densities.sum(dim=1) - math.log(len(CENTRES) * 2 * math.pi * SPREAD**2)


@register("25gaussians", dim=2)
def load(root: Path | None, seed: int) -> Dataset:
    """The grid as a data set."""
    about = (
        "Synthetic 5 x 5 grid of Gaussians, spacing 2, standard deviation 0.05, each as likely "
        "(arXiv:1712.04086)"
    )
    return drawn(
        "25gaussians",
        seed,
        sample,
        about,
        log_prob=log_prob,
        entropy=ENTROPY,
        modes=CENTRES,
    )
