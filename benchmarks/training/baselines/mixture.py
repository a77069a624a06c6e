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
FEW = 20_000  # rows that EM takes at least; more where there are many parameters
RATIO = 2  # of rows to parameters, up to which EM takes more rows
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

    def grow(self, train: Tensor, validation: Tensor) -> None:
        """Split the heaviest components, and fit."""
        components = len(self.model.means)
        larger = min(COMPONENTS, max(components + 1, int(components * GROWTH)))
        self.model = self.model.split(larger - components, self.generator)
        rows = max(FEW, RATIO * self.model.parameters)
        self.fit(train[:, :rows], validation)

    def fit(self, train: Tensor, validation: Tensor) -> None:
        """Take `STEPS` of EM on data (D, N), and validate."""
        for _ in range(STEPS):
            self.spent += self.model.flops(train.shape[1])
            self.model = self.model.step(train, self.ridge)
        self.steps += STEPS
        self.spent += self.model.flops(validation.shape[1]) / 2
        score = float(self.model.log_prob(validation).mean())
        self.stale = 0 if score > self.score else self.stale + 1
        if not self.stale:
            self.best, self.score = self.model, score


def mixture(
    train: np.ndarray, seed: int, validation: np.ndarray, effort: float = EFFORT
) -> Baseline:
    """Gaussians by EM, up to 200; number, covariance and regulariser are chosen on validation.

    For whitened rows (N, D): the regularisers are in units of their variances. ``effort`` bounds
    the FLOPs of EM. Each of `ENTRANTS` grows by splitting components; the better half grows on,
    until one is left, each round with an equal share of the effort. The best mixture of all is
    fitted to all rows, as long as validation gains.
    """
    picks = np.random.default_rng(seed).permutation(len(train))[:ROWS]
    x, held = columns(train[picks]), columns(validation[:VALIDATION])
    entrants = [_entrant(x, held, seed + k, *entry) for k, entry in enumerate(ENTRANTS)]
    winner = _tournament(entrants, x, held, effort)
    tried = [entrant.about() for entrant in entrants]
    winner.model, winner.stale = winner.best, 0
    while winner.stale < PATIENCE and _spent(entrants) < effort:
        winner.fit(x, held)
    notes = {
        **winner.about(),
        "rows": x.shape[1],
        "steps": winner.steps,
        "effort": _spent(entrants),
        "tried": tried,
    }
    return Baseline.of(winner.best, seed, notes)


def _tournament(
    entrants: Sequence[Entrant], train: Tensor, validation: Tensor, effort: float
) -> Entrant:
    """The best entrant, after rounds in which the better half of them grows on."""
    rounds = len(entrants).bit_length()
    while True:
        share = effort / rounds / len(entrants)
        for entrant in entrants:
            limit = entrant.spent + share
            while not entrant.finished and entrant.spent < limit:
                entrant.grow(train, validation)
        entrants = sorted(entrants, key=lambda entrant: -entrant.score)
        if len(entrants) == 1:
            return entrants[0]
        entrants = entrants[: len(entrants) // 2]


def _entrant(
    train: Tensor, validation: Tensor, seed: int, covariance: Covariance, ridge: float
) -> Entrant:
    """One Gaussian that is to grow."""
    model = start(train, covariance, ridge)
    score = float(model.log_prob(validation).mean())
    return Entrant(model, ridge, torch.Generator().manual_seed(seed), model, score)


def _spent(entrants: Sequence[Entrant]) -> float:
    return sum(entrant.spent for entrant in entrants)
