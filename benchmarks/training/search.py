"""A search of hyperparameters, equal for every family: a design, and successive halving.

Each family gets the same number of configurations, chosen in its own space by a low-discrepancy
sequence; each rung trains the best of the rung before, by validation, for longer. Jamieson and
Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, 2016,
arXiv:1502.07943.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt
from pydantic import model_validator as validator

from benchmarks.core.case import Settings
from benchmarks.training.settings import TrainingPart


class Space(Settings, frozen=True):
    """What a search of one family chooses from: a range of learning rates, and lists of values."""

    learning_rate: tuple[PositiveFloat, PositiveFloat] = (1e-3, 1e-2)
    """Lowest and highest learning rate. Choices are even in its logarithm."""
    preprocessing: tuple[str, ...] = Field(default=("whiten",), min_length=1)
    """Preprocessings to choose from."""
    options: Mapping[str, tuple[JsonValue, ...]] = {}
    """Values to choose from, by the name of an option of the flow."""

    @validator(mode="after")
    def _not_empty(self) -> Self:
        low, high = self.learning_rate
        if low > high:
            raise ValueError(f"learning_rate = [{low:g}, {high:g}]: give the lower end first")
        for name in self.preprocessing:
            TrainingPart(preprocessing=name)  # raises for an unknown one
        if empty := [name for name, values in self.options.items() if not values]:
            raise ValueError(f"option {empty[0]!r} has no values to choose from")
        return self


class Rung(Settings, frozen=True):
    """A budget, in seconds of updates, and the number of configurations that get it."""

    seconds: PositiveFloat
    """Seconds of updates that each configuration gets."""
    configurations: PositiveInt
    """Number of configurations, the best of the rung before, that get them."""


@dataclass(frozen=True)
class Configuration:
    """One choice of a space."""

    number: int
    learning_rate: float
    preprocessing: str
    options: Mapping[str, Any]

    @property
    def training(self) -> dict[str, Any]:
        """The settings of a training that it decides."""
        return {"learning_rate": self.learning_rate, "preprocessing": self.preprocessing}


def configurations(space: Space, count: int, seed: int = 0) -> list[Configuration]:
    """Choose configurations of a space by a scrambled Halton sequence; the same for a seed."""
    from scipy.stats import qmc  # which takes a second

    lists = [space.preprocessing, *space.options.values()]
    points = qmc.Halton(1 + len(lists), rng=seed).random(count)
    low, high = space.learning_rate
    chosen = []
    for number, (place, *shares) in enumerate(points):
        rate = float(f"{low * (high / low) ** place:.3g}")
        pairs = zip(lists, shares, strict=True)
        preprocessing, *values = (some[int(share * len(some))] for some, share in pairs)
        options = dict(zip(space.options, values, strict=True))
        chosen.append(Configuration(number, rate, str(preprocessing), options))
    return chosen


def ranked(scores: Sequence[float]) -> list[int]:
    """Order numbers of trials by falling validation likelihood; those that are not finite go."""
    finite = [number for number, score in enumerate(scores) if math.isfinite(score)]
    return sorted(finite, key=lambda number: -scores[number])
