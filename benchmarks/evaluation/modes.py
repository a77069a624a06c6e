"""Coverage of a data set's modes by samples, and the share of samples in the gaps between."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.datasets import Dataset

MISSED = 0.1  # of the share 1/K below which a mode counts as missed
THIN = 0.5  # and as thin
RARE = 0.01  # share of the data with the lowest density, which lies between the modes


def shares(x: Tensor, data: Dataset) -> np.ndarray:
    """Return the share of samples (N, D) nearest to each mode, (K,).

    Raises ValueError for a data set without modes.
    """
    if data.modes is None:
        raise ValueError(
            f"data set {data.name!r} has no modes: take one that has, 8gaussians or 25gaussians "
            "say, or give it modes (docs/adding.md)"
        )
    import torch  # here: tables read the constants above

    nearest = torch.cdist(x.double(), data.modes.to(x.device)).argmin(dim=1)
    return torch.bincount(nearest, minlength=len(data.modes)).cpu().numpy() / len(x)


def of_due(share: np.ndarray) -> np.ndarray:
    """Divide shares (K,) by that of K equally likely modes, 1/K."""
    return share * len(share)


def gap_mass(x: Tensor, data: Dataset) -> float:
    """Return the share of samples (N, D) where the data's density is as low as at its rarest rows.

    Raises ValueError for a data set without a known density.
    """
    if data.log_prob is None:
        raise ValueError(
            f"the density of data set {data.name!r} is not known, nor are its gaps: take one with "
            "an exact density, 8gaussians say"
        )
    level = data.log_prob(data.test).quantile(RARE)
    return float((data.log_prob(x.cpu().double()) < level).double().mean())


def figures(x: Tensor, data: Dataset) -> dict[str, float]:
    """Return the metrics of samples (N, D) on the modes; ValueError as above."""
    share = shares(x, data)
    due, some = of_due(share), share[share > 0]
    return {
        "modes_missed": float((due < MISSED).sum()),
        "modes_thin": float((due < THIN).sum()),
        "least_share": float(due.min()),
        "mode_kl": math.log(len(share)) + float((some * np.log(some)).sum()),
        "gap_mass": gap_mass(x, data),
    }
