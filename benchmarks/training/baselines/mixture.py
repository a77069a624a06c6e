"""A Gaussian mixture that grows: EM, components split, all choices made on validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.training.baselines.density import Baseline, columns
from benchmarks.training.baselines.em import Covariance, Mixture, start

COMPONENTS = 200  # at most
ROWS = 100_000  # of the training set, at most
RATIO = 2  # of rows to parameters, with which a mixture grows at least
PRODUCTS = 20_000_000  # of two entries of a row, with which it grows at least
VALIDATION = 5_000  # rows at most
GROWTH = 1.1  # ratio of components from one size to the next
STEPS = 5  # of EM at a size
PATIENCE = 5  # sizes, or times `STEPS` at the end, without a better validation
ENTRANTS: tuple[tuple[Covariance, float], ...] = (  # with what is added to their variances
    ("full", 1e-6),
    ("full", 1e-6),  # from another seed
    ("full", 1e-4),
    ("full", 1e-4),
    ("full", 1e-2),
    ("diagonal", 1e-4),
)
EFFORT = 1e13  # FLOPs of EM: minutes of one thread at 63 dimensions, seconds at two


@dataclass
class Entrant:
    """A mixture that grows with a covariance type and a ridge, and the best that it was."""

    model: Mixture
    ridge: float
    generator: torch.Generator
    best: Mixture
    score: float  # validation, nats
    stale: int = 0  # sizes since then
    steps: int = 0
    spent: float = 0.0  # FLOPs

    @property
    def finished(self) -> bool:
        """Whether it is as large as it may be, or has not gained for `PATIENCE` sizes."""
        return self.stale >= PATIENCE or len(self.model.means) >= COMPONENTS

    def about(self) -> dict[str, Any]:
        """What it was at its best, for the record."""
        return {
            "components": len(self.best.means),
            "covariance": self.best.covariance,
            "regulariser": self.ridge,
            "validation_ll": self.score,
        }

    def grow(self, train: Tensor, validation: Tensor, limit: float) -> bool:
        """Split the heaviest components and fit, if that is less work than ``limit``."""
        components = len(self.model.means)
        larger = min(COMPONENTS, max(components + 1, int(components * GROWTH)))
        model = self.model.split(larger - components, self.generator)
        rows = max(RATIO * model.parameters, PRODUCTS // model.features)
        return self.fit(model, train[:, :rows], validation, limit)

    def fit(self, model: Mixture, train: Tensor, validation: Tensor, limit: float) -> bool:
        """Take `STEPS` of EM on data (D, N) and validate, if that is less work than ``limit``."""
        work = STEPS * model.flops(train.shape[1]) + model.flops(validation.shape[1]) / 2
        if work > limit:
            return False
        self.spent += work
        self.steps += STEPS
        self.model = model
        for _ in range(STEPS):
            self.model = self.model.step(train, self.ridge)
        score = float(self.model.log_prob(validation).mean())
        self.stale = 0 if score > self.score else self.stale + 1
        if not self.stale:
            self.best, self.score = self.model, score
        return True


def mixture(
    train: np.ndarray, seed: int, validation: np.ndarray, effort: float = EFFORT
) -> Baseline:
    """Gaussians by EM, up to 200; number, covariance and regulariser are chosen on validation.

    For whitened rows (N, D): the regularisers are in units of their variances. ``effort`` bounds
    the FLOPs. Each of `ENTRANTS` grows by splitting components; the better half grows on, until
    one is left, each round with an equal share of the effort. That one is then fitted to all rows,
    as long as validation gains. Splitting: Ueda et al., SMEM algorithm for mixture models, Neural
    Computation 12, 2000.
    """
    picks = np.random.default_rng(seed).permutation(len(train))[:ROWS]
    x, held = columns(train[picks]), columns(validation[:VALIDATION])
    entrants = [_entrant(x, held, seed + k, *entry) for k, entry in enumerate(ENTRANTS)]
    winner = _tournament(entrants, x, held, effort)
    tried = [entrant.about() for entrant in entrants]
    winner.model, winner.stale = winner.best, 0
    left = effort - _spent(entrants)
    while winner.stale < PATIENCE and winner.fit(winner.model, x, held, left):
        left = effort - _spent(entrants)
    notes = {
        **winner.about(),
        "validation_rows": held.shape[1],
        "rows": x.shape[1],
        "steps": winner.steps,
        "flops": _spent(entrants),
        "tried": tried,
    }
    return Baseline.of(winner.best, seed, notes)


def _tournament(
    entrants: Sequence[Entrant], train: Tensor, validation: Tensor, effort: float
) -> Entrant:
    """The best entrant, after rounds in which the better half of them grows on."""
    growing = list(entrants)
    for rounds in range(len(entrants).bit_length(), 0, -1):
        share = (effort - _spent(entrants)) / rounds / len(growing)
        for entrant in growing:
            end = entrant.spent + share
            while not entrant.finished:
                if not entrant.grow(train, validation, end - entrant.spent):
                    break
        growing = sorted(growing, key=lambda entrant: -entrant.score)[: max(1, len(growing) // 2)]
    return growing[0]


def _entrant(
    train: Tensor, validation: Tensor, seed: int, covariance: Covariance, ridge: float
) -> Entrant:
    """One Gaussian that is to grow."""
    model = start(train, covariance, ridge)
    score = float(model.log_prob(validation).mean())
    return Entrant(model, ridge, torch.Generator().manual_seed(seed), model, score)


def _spent(entrants: Sequence[Entrant]) -> float:
    return sum(entrant.spent for entrant in entrants)
