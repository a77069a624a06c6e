"""How a flow is trained, as data: a suite and a protocol give these, a case holds all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic import model_validator as validator
from torch import Generator, Tensor

from benchmarks.datasets import Dataset

Sampler = Callable[[int, Generator], Tensor]  # n and a stream -> (n, D) rows of a distribution


class Training(BaseModel, frozen=True, extra="forbid"):
    """Optimiser, schedule, stopping, and which weights stay.

    Budgets are in updates, which the case has; seconds are measured. The defaults are those of the
    suites: Adam, clipped gradients, cosine decay, best validated weights.
    """

    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0  # decoupled with adamw; with adam a term of the gradient
    clip: NonNegativeFloat = 5.0  # largest norm of the gradient; 0: none
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"  # see `schedules`
    warmup: NonNegativeInt = 0  # updates over which the learning rate rises to its value
    whiten: bool = False  # a fixed affine whitening of the training set comes first
    fresh: bool = False  # each batch is drawn anew from the data's own distribution
    validations: PositiveInt = 10  # times that the validation set is looked at
    validate_every: NonNegativeInt = 0  # updates from one to the next, in place of their number
    validation_rows: PositiveInt = 2000
    validation_tolerance: PositiveFloat = (
        1e-4  # of dopri5: a field learns to profit from fixed steps
    )
    patience: NonNegativeInt = 0  # validations without a better one before it stops; 0: no stop
    time_limit: NonNegativeFloat = 0.0  # seconds of training, validation apart; 0: none
    keep: Literal["best", "last"] = "best"  # the weights that stay, best by validation

    @validator(mode="after")
    def _consistent(self) -> Self:
        if self.schedule == "plateau" and not self.patience:
            raise ValueError("schedule 'plateau' goes by the patience: set patience above 0")
        return self

    def every(self, updates: int) -> int:
        """Updates from one validation to the next."""
        return self.validate_every or max(1, updates // self.validations)

    def source(self, data: Dataset) -> Sampler | None:
        """What fresh batches are drawn from; None where they are rows of the training set.

        Raises ValueError where they are to be fresh and the data set has no distribution.
        """
        if self.fresh and data.sample is None:
            raise ValueError(
                f"data set {data.name!r} has no distribution to draw fresh rows from: set fresh = "
                "false, or take one that is drawn (flowgauge data list)"
            )
        return data.sample if self.fresh else None
