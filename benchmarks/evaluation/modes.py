"""Coverage of a data set's modes by samples, and the share of samples in the gaps between."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.datasets import Dataset

MISSED = 0.1  # of its due share, below which a mode counts as missed
THIN = 0.5  # and as thin
RARE = 0.01  # share of the data with the lowest density, which lies between the modes


def centres(data: Dataset) -> Tensor:
    """Return the modes (K, D) of a data set; ValueError if it has none."""
    if data.modes is None:
        raise ValueError(
            f"data set {data.name!r} has no modes: take one that has, 8gaussians or 25gaussians "
            "say, or give it modes (docs/adding.md)"
        )
    return data.modes


def due(data: Dataset) -> np.ndarray:
    """Return the share of the mass that is due to each mode, (K,); ValueError as `centres`."""
    count = len(centres(data))
    return np.full(count, 1 / count) if data.weights is None else data.weights.numpy()


def shares(x: Tensor, data: Dataset, chosen: Tensor | None = None) -> np.ndarray:
    """Return the share of samples (N, D) that are nearest to each mode, (K,).

    With ``chosen`` (N, bool) those that are chosen too. Raises ValueError as `centres`.
    """
    import torch  # here: tables read the constants above

    modes = centres(data)
    nearest = torch.cdist(x.double(), modes.to(x.device)).argmin(dim=1)
    nearest = nearest if chosen is None else nearest[chosen]
    return torch.bincount(nearest, minlength=len(modes)).cpu().numpy() / len(x)


def density(data: Dataset) -> Callable[[Tensor], Tensor]:
    """Return the exact log-density of a data set; ValueError if it is not known."""
    if data.log_prob is None:
        raise ValueError(
            f"the density of data set {data.name!r} is not known, nor are its gaps: take one with "
            "an exact density, 8gaussians say, or train by likelihood"
        )
    return data.log_prob


def figures(x: Tensor, data: Dataset) -> dict[str, float]:
    """Return the metrics of samples (N, D) on the modes; ValueError as above."""
    log_p = density(data)
    within = log_p(x.cpu().double()) >= log_p(data.test).quantile(RARE)
    share, mass = shares(x, data), shares(x, data, within.to(x.device))
    of_due, some = share / due(data), share > 0
    return {
        "modes_missed": float((of_due < MISSED).sum()),
        "modes_thin": float((of_due < THIN).sum()),
        "least_share": float(of_due.min()),
        "least_mass": float((mass / due(data)).min()),
        "mode_kl": float((share[some] * np.log(of_due[some])).sum()),
        "gap_mass": float((~within).double().mean()),
    }
