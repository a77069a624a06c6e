"""Baselines: densities that are fitted, not trained, which a flow has to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.training.baselines.density import Baseline, gaussian
from benchmarks.training.baselines.kernels import kde
from benchmarks.training.baselines.mixture import mixture
from flows import preprocessing

# functions of training rows (N, D), of about unit variance, a seed, and validation rows
BASELINES: dict[str, Callable[..., Baseline]] = {
    "gaussian": gaussian,
    "kde": kde,
    "mixture": mixture,
}
PREPROCESSING = "whiten"  # of a baseline, unless another is asked for


def fit(
    name: str,
    train: np.ndarray,
    seed: int,
    validation: np.ndarray,
    *,
    before: str = PREPROCESSING,
    **settings: Any,
) -> Baseline:
    """A baseline of raw rows (N, D), fitted after a preprocessing (`flows.preprocessing`).

    The preprocessing is fitted to the training rows and counted in densities; samples are of the
    raw data.
    """
    first = preprocessing.fit(before, torch.from_numpy(train).double())

    def mapped(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z, ladj = first(torch.from_numpy(rows).double())
        return z.numpy(), ladj.numpy()

    def log_prob(rows: np.ndarray) -> np.ndarray:
        z, ladj = mapped(rows)
        return fitted.log_prob(z) + ladj

    def sample(n: int) -> np.ndarray:
        x: np.ndarray = first.inverse(torch.from_numpy(fitted.sample(n)))[0].numpy()
        return x

    fitted = BASELINES[name](mapped(train)[0], seed, mapped(validation)[0], **settings)
    notes = {**fitted.notes, "preprocessing": before}
    return replace(fitted, log_prob=log_prob, sample=sample, notes=notes)
