"""FFJORD's `pinwheel`: five Gaussian arms, turned by an angle that grows with the radius.

Source: `lib/toy_data.py` of Grathwohl et al., FFJORD, 2018, arXiv:1810.01367. A row's arm is drawn,
where theirs has equal shares. The turn folds the plane far out in the arms' tails, so that no
density is given.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.datasets import Dataset, register
from benchmarks.datasets.drawn import drawn

ARMS, RATE = 5, 0.25
SPREADS = (0.3, 0.1)  # along the arm and across it


def sample(n: int, generator: torch.Generator) -> Tensor:
    """2 (r, s) turned by -(2 pi k / 5 + e^r / 4), r ~ N(1, 0.3^2), s ~ N(0, 0.1^2): (n, 2)."""
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    r, s = 1 + SPREADS[0] * noise[:, 0], SPREADS[1] * noise[:, 1]
    arm = torch.randint(ARMS, (n,), generator=generator)
    angle = arm * (2 * math.pi / ARMS) + RATE * r.exp()
    cos, sin = angle.cos(), angle.sin()
    return 2 * torch.stack((r * cos + s * sin, s * cos - r * sin), dim=1)


@register("pinwheel")
def load(root: Path | None, seed: int) -> Dataset:
    """The pinwheel as a data set."""
    about = "Synthetic pinwheel after FFJORD's toy_data.py (arXiv:1810.01367)"
    return drawn("pinwheel", seed, sample, about)
