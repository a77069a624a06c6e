"""FFJORD's `moons` and `swissroll`: plane curves under Gaussian noise, densities by quadrature.

Source: `lib/toy_data.py` of Grathwohl et al., FFJORD, 2018, arXiv:1810.01367, which takes them from
scikit-learn. The place on a moon is uniform and independent here, where theirs is an even grid;
everything comes from one generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets import Dataset, Loader, register
from benchmarks.datasets.drawn import drawn

CHUNK = 4096  # rows per block of distances to all nodes


def upper_moon(u: Tensor) -> Tensor:
    """Half a circle of radius 2: (n,) in [0, 1] -> (n, 2)."""
    return torch.stack((2 * (math.pi * u).cos() - 1, 2 * (math.pi * u).sin() - 0.2), dim=1)


def lower_moon(u: Tensor) -> Tensor:
    """The other half, that of the upper one turned about (0, 0.3): (n,) -> (n, 2)."""
    return torch.tensor([0.0, 0.6]).to(u) - upper_moon(u)


def roll(u: Tensor) -> Tensor:
    """The spiral of radius t / 5 at the angle t from 1.5 pi to 4.5 pi: (n,) -> (n, 2)."""
    t = 1.5 * math.pi * (1 + 2 * u)
    return t[:, None] / 5 * torch.stack((t.cos(), t.sin()), dim=1)


class Arcs(NamedTuple):
    """Equally likely curves over [0, 1], plus N(0, spread^2 I)."""

    curves: tuple[Callable[[Tensor], Tensor], ...]
    spread: float
    nodes: int  # of the quadrature along a curve: less than a spread apart

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Independent points: (n, 2)."""
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        k = torch.randint(len(self.curves), (n,), generator=generator)
        places = torch.stack([curve(u) for curve in self.curves])[k, torch.arange(n)]
        return places + self.spread * torch.randn(n, 2, generator=generator, dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, nats: (n, 2) -> (n,), by Gauss-Legendre along the curves.

        Within 10 spreads of the curves the error is below 1e-9 (tested by twice the nodes).
        """
        at, weight = (torch.tensor(a).to(x) for a in np.polynomial.legendre.leggauss(self.nodes))
        centres = torch.cat([curve((at + 1) / 2) for curve in self.curves])
        constant = math.log(len(self.curves) * 2 * 2 * math.pi * self.spread**2)
        weights = weight.log().repeat(len(self.curves)) - constant
        parts = []
        for part in torch.split(x, CHUNK):
            # cdist by a product of matrices loses half the digits
            distance = torch.cdist(part, centres, compute_mode="donot_use_mm_for_euclid_dist")
            square = distance.square() / self.spread**2
            parts.append(torch.logsumexp(weights - square / 2, dim=1))
        return torch.cat(parts)


@cache
def entropy(arcs: Arcs, step: float = 0.25, margin: float = 9.0) -> float:
    """Integrate by the trapezoid rule in the plane, nats; error below 1e-10 (tested).

    ``step`` and ``margin``, the width of the rim beyond the curves, are in spreads.
    """
    u = torch.linspace(0, 1, 1000, dtype=torch.float64)
    places = torch.cat([curve(u) for curve in arcs.curves])
    low, high = places.amin(dim=0), places.amax(dim=0)
    h, rim = step * arcs.spread, margin * arcs.spread
    x, y = (
        torch.arange(float(low[i]) - rim, float(high[i]) + rim, h, dtype=torch.float64)
        for i in (0, 1)
    )
    log_p = arcs.log_prob(torch.cartesian_prod(x, y))
    return -(h**2) * float((log_p.exp() * log_p).sum())


ARCS = {
    "moons": Arcs((upper_moon, lower_moon), 0.2, 100),
    "swissroll": Arcs((roll,), 0.2, 240),
}


def _loader(name: str, arcs: Arcs) -> Loader:
    def load(root: Path | None, seed: int) -> Dataset:
        about = f"Synthetic {name} after FFJORD's toy_data.py (arXiv:1810.01367)"
        return drawn(name, seed, arcs.sample, about, log_prob=arcs.log_prob, entropy=entropy(arcs))

    return load


for _name, _arcs in ARCS.items():
    register(_name, dim=2)(_loader(_name, _arcs))
