"""A fitted density, and the simplest of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from benchmarks.training.baselines.em import Mixture, start


@dataclass(frozen=True)
class Baseline:
    """A fitted density: ``log_prob`` (N, D) -> (N,) nats, ``sample`` n -> (n, D).

    Of its first C columns, for any C, ``marginal`` (N, C) -> (N,) is the log-density, nats, and
    ``completed`` (N, C) -> (N, D) draws rows that have them.
    """

    parameters: int
    log_prob: Callable[[np.ndarray], np.ndarray]
    sample: Callable[[int], np.ndarray]
    marginal: Callable[[np.ndarray], np.ndarray]
    completed: Callable[[np.ndarray], np.ndarray]
    notes: Mapping[str, Any] = field(default_factory=dict)  # choices that were made

    @classmethod
    def of(cls, model: Mixture, seed: int, notes: Mapping[str, Any]) -> Self:
        """A mixture with a stream of samples."""
        generator = torch.Generator().manual_seed(seed)
        return cls(
            parameters=model.parameters,
            log_prob=lambda rows: model.log_prob(columns(rows)).numpy(),
            sample=lambda n: model.sample(n, generator).numpy(),
            marginal=lambda x: model.leading(x.shape[1]).log_prob(columns(x)).numpy(),
            completed=lambda x: model.completed(torch.from_numpy(x), generator).numpy(),
            notes=notes,
        )


def columns(rows: np.ndarray) -> Tensor:
    """(N, D) -> (D, N) in float64."""
    return torch.from_numpy(np.ascontiguousarray(rows.T, dtype=np.float64))


def gaussian(train: np.ndarray, seed: int, validation: np.ndarray) -> Baseline:
    """One Gaussian with full covariance, by maximum likelihood."""
    return Baseline.of(start(columns(train), "full", 0.0), seed, {})
