"""Settings of a training, as data: suites and protocols give some, a case holds all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)
from pydantic import model_validator as validator
from torch import Generator, Tensor

from benchmarks.datasets import Dataset
from flows.preprocessing import FITS

Sampler = Callable[[int, Generator], Tensor]  # n and a stream -> (n, D) rows of a distribution


class TrainingPart(BaseModel, frozen=True, extra="forbid"):
    """Optimiser, schedule, stopping, and the weights that are kept; each value checked by itself.

    Budgets are in updates, which are a field of the case; seconds are measured. By default: Adam,
    clipped gradients, cosine decay, the best validated weights.
    """

    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0  # decoupled with adamw; with adam a term of the gradient
    clip: NonNegativeFloat = 5.0  # largest norm of the gradient; 0: none
    schedule: Literal["constant", "cosine", "plateau", "wsd"] = "cosine"  # see `schedules`
    decay: float = Field(default=0.2, gt=0, le=1)  # share of the updates in which "wsd" falls
    # what is minimised while that rate falls: the flow's own loss, or its negative log-likelihood
    finish: Literal["own", "likelihood"] = "own"
    warmup: NonNegativeInt = 0  # updates over which the learning rate rises to its value
    preprocessing: str = "none"  # what `flows.preprocessing` fits to the rows, before the flow
    fresh: bool = False  # draw each batch anew from the data set's own distribution
    validations: PositiveInt = 10  # their number
    validate_every: NonNegativeInt = 0  # updates between validations, in place of their number
    validation_rows: PositiveInt = 2000
    # of dopri5, whatever the training's solver: a field learns to exploit fixed steps
    validation_tolerance: PositiveFloat = 1e-4
    patience: NonNegativeInt = 0  # validations without improvement before the end; 0: no end
    time_limit: NonNegativeFloat = 0.0  # seconds of training without validations; 0: none
    keep: Literal["best", "last"] = "best"  # weights at the end, best by validation

    @validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        """Read what earlier runs wrote: ``whiten`` in place of ``preprocessing``."""
        if not (isinstance(values, dict) and "whiten" in values):
            return values
        others = {name: value for name, value in values.items() if name != "whiten"}
        return {"preprocessing": "whiten" if values["whiten"] else "none", **others}

    @field_validator("preprocessing")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in (choices := ("none", *FITS)):
            raise ValueError(f"unknown preprocessing {name!r}; choose from: {', '.join(choices)}")
        return name


class Training(TrainingPart, frozen=True):
    """All settings of a training, checked together."""

    @validator(mode="after")
    def _consistent(self) -> Self:
        if self.schedule == "plateau" and not self.patience:
            raise ValueError("schedule 'plateau' depends on patience: set patience above 0")
        if self.finish != "own" and self.schedule != "wsd":
            raise ValueError(
                f"finish = {self.finish!r} begins as a rate falls: set schedule = 'wsd'"
            )
        return self

    def every(self, updates: int) -> int:
        """Return the number of updates between two validations."""
        return self.validate_every or max(1, updates // self.validations)

    def source(self, data: Dataset) -> Sampler | None:
        """Return the sampler of fresh batches; None if batches are rows of the training set.

        Raises ValueError if rows are to be fresh and the data set has no distribution.
        """
        if self.fresh and data.sample is None:
            raise ValueError(
                f"data set {data.name!r} has no distribution to draw fresh rows from: set fresh = "
                "false, or take one that is drawn (flowgauge data list)"
            )
        return data.sample if self.fresh else None
