"""FFJORD's `circles` and `rings`: concentric circles under Gaussian noise, exact densities.

Source: `lib/toy_data.py` of Grathwohl et al., FFJORD, 2018, arXiv:1810.01367. Angles are
uniform and independent here, where theirs are an even grid; everything comes from one generator.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets import Dataset, Loader, register
from benchmarks.datasets.drawn import drawn


class Rings(NamedTuple):
    """Equally likely circles about 0, plus N(0, spread^2 I)."""

    radii: tuple[float, ...]
    spread: float

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Independent points: (n, 2)."""
        radius = torch.tensor(self.radii, dtype=torch.float64)[
            torch.randint(len(self.radii), (n,), generator=generator)
        ]
        angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        circle = radius[:, None] * torch.stack((angle.cos(), angle.sin()), dim=1)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return circle + self.spread * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log density, nats: (n, 2) -> (n,); over the angle it is a Bessel function."""
        r, radius = x.norm(dim=1, keepdim=True), torch.tensor(self.radii).to(x)
        bessel = torch.special.i0e(r * radius / self.spread**2).log()
        ring_log_densities = bessel - (r - radius).square() / (2 * self.spread**2)
        constant = math.log(len(self.radii) * 2 * math.pi * self.spread**2)
        return torch.logsumexp(ring_log_densities, dim=1) - constant


@cache
def entropy(rings: Rings, nodes: int = 600) -> float:
    """Integrate by Gauss-Legendre over the radius, nats; error below 1e-10 (tested)."""
    end = max(rings.radii) + 12 * rings.spread
    at, weight = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(nodes))
    r = end / 2 * (at + 1)
    log_p = rings.log_prob(torch.stack((r, torch.zeros_like(r)), dim=1))
    return -float((end / 2 * weight * 2 * math.pi * r * log_p.exp() * log_p).sum())


RINGS = {
    "circles": Rings((3.0, 1.5), 0.24),
    "rings": Rings((3.0, 2.25, 1.5, 0.75), 0.08),
}


def _loader(name: str, rings: Rings) -> Loader:
    def load(root: Path | None, seed: int) -> Dataset:
        about = f"Synthetic {name} after FFJORD's toy_data.py (arXiv:1810.01367)"
        return drawn(
            name, seed, rings.sample, about, log_prob=rings.log_prob, entropy=entropy(rings)
        )

    return load


for _name, _rings in RINGS.items():
    register(_name, dim=2)(_loader(_name, _rings))
