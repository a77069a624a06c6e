"""Modes: which of a data set's modes samples reach, and how many lie in the gaps between them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets import Dataset

MISSED = 0.1  # of its due share of the samples, below which a mode counts as missed
THIN = 0.5  # and as thin
RARE = 0.01  # of the data, which lies where its density is lowest: in the gaps between the modes


def shares(x: Tensor, data: Dataset) -> np.ndarray:
    """The share of samples (N, D) nearest to each mode, (K,).

    Raises ValueError where the data set says nothing of its modes.
    """
    if data.modes is None:
        raise ValueError(
            f"data set {data.name!r} says nothing of its modes: take one that does, 8gaussians or "
            "25gaussians say, or give it modes (docs/adding.md)"
        )
    nearest = torch.cdist(x.double(), data.modes.to(x.device)).argmin(dim=1)
    return torch.bincount(nearest, minlength=len(data.modes)).cpu().numpy() / len(x)


def of_due(share: np.ndarray) -> np.ndarray:
    """Shares (K,) over the one that each mode is due, 1/K."""
    return share * len(share)


def gap_mass(x: Tensor, data: Dataset) -> float:
    """The share of samples (N, D) where the data's density is as low as for its rarest rows.

    Raises ValueError where the data's density is not known.
    """
    if data.log_prob is None:
        raise ValueError(
            f"the density of data set {data.name!r} is not known, so its gaps are not either: take "
            "one with an exact density, 8gaussians say"
        )
    level = torch.quantile(data.log_prob(data.test), RARE)
    return float((data.log_prob(x.cpu().double()) < level).double().mean())


def figures(x: Tensor, data: Dataset) -> dict[str, float]:
    """What samples (N, D) make of the modes, as metrics of a record; ValueError as above."""
    share = shares(x, data)
    due, some = of_due(share), share[share > 0]
    return {
        "modes_missed": float((due < MISSED).sum()),
        "modes_thin": float((due < THIN).sum()),
        "least_share": float(due.min()),
        "mode_kl": math.log(len(share)) + float((some * np.log(some)).sum()),
        "gap_mass": gap_mass(x, data),
    }
