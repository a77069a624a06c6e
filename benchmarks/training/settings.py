"""Settings of a training, as data: suites and protocols give some, a case holds all of them."""

import math
from collections.abc import Callable, Mapping
from typing import Literal, Self

from pydantic import Field, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic import model_validator as validator
from pydantic.functional_validators import field_validator
from torch import Generator, Tensor

from benchmarks.core.case import Settings
from benchmarks.datasets import Dataset
from flows.preprocessing import check
from flows.training import cosine

Sampler = Callable[[int, Generator], Tensor]  # n and a stream -> (n, D) rows of a distribution


class TrainingPart(Settings, frozen=True):
    """Optimiser, schedule, stopping, and the weights that are kept; each value checked by itself.

    Budgets are in updates, which are a field of the case; seconds are measured. By default: Adam,
    clipped gradients, cosine decay, the best validated weights.
    """

    optimizer: Literal["adam", "adamw"] = "adam"
    """Optimiser: "adam", or "adamw" with decoupled weight decay."""
    learning_rate: PositiveFloat = 1e-3
    """Learning rate at the start, after the warm-up."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay: decoupled with "adamw", a term of the gradient with "adam"."""
    clip: NonNegativeFloat = 5.0
    """Largest norm of the gradient; 0 clips nothing."""
    schedule: Literal["constant", "cosine", "plateau", "wsd", "course"] = "cosine"
    """Course of the learning rate: "constant"; "cosine", to zero at the last update; FFJORD's
    "plateau", a tenth after a third of the patience without a better validation and a hundredth
    after two thirds; "wsd", constant and then falling to zero, so that trainings of all lengths are
    one that branches; "course", that of `flows.training.Course`: as "wsd", by what is spent, with
    validations in time and means of weights.
    """
    decay: float = Field(default=0.2, ge=0, le=1)
    """Last share of the updates, or of what is spent, in which the rate of "wsd" or "course" falls;
    0 with "course": it never does.
    """
    finish: Literal["own", "likelihood"] = "own"
    """Loss while the rate of "wsd" falls: the flow's "own", or "likelihood", the negative
    log-likelihood, as after a start by flow matching.
    """
    warmup: NonNegativeInt = 0
    """Updates over which the learning rate rises linearly to its value."""
    preprocessing: str = "none"
    """Preprocessing that is fitted to the training rows and put before the flow: "none", a step of
    `flows.preprocessing`, or some joined by "+", as "logit+whiten". It is counted in every density.
    """
    fresh: bool = False
    """Whether each batch is drawn anew from the distribution of the data set, which then has to
    have one.
    """
    validations: PositiveInt = 10
    """Number of validations during a training."""
    validate_every: NonNegativeInt = 0
    """Updates between validations, in place of their number; 0 leaves that in force."""
    validation_rows: PositiveInt = 2000
    """Rows of the validation set that are used, at most."""
    validation_tolerance: PositiveFloat = 1e-4
    """Tolerance of dopri5 in validations. It solves the ODE there whatever solver trains the flow,
    since a field learns to exploit fixed steps.
    """
    patience: NonNegativeInt = 0
    """Validations without a better one after which the training stops; 0 never stops it."""
    time_limit: NonNegativeFloat = 0.0
    """Seconds, validations apart, after which the training stops; 0 sets no limit. A "course" takes
    no more seconds of the clock, validations and all: its rate falls in time.
    """
    cpu_seconds: NonNegativeFloat = 0.0
    """CPU seconds of updates that end a "course" in place of its updates, of this process and its
    children, without validations and checkpoints; on a GPU the seconds that it is busy. 0: updates.
    """
    led: Mapping[str, JsonValue] = {}
    """Decisions of an earlier "course", which this one repeats: `updates`, `validated`, `falls`,
    `returned` and `rows`, as in its record.
    """
    keep: Literal["best", "last"] = "best"
    """Weights that are scored: the "best" by validation, or the "last"."""

    @field_validator("preprocessing")
    @classmethod
    def _known(cls, name: str) -> str:
        return check(name, "none")


class Training(TrainingPart, frozen=True):
    """All settings of a training, checked together."""

    @validator(mode="after")
    def _consistent(self) -> Self:
        if self.decay == 0 and self.schedule == "wsd":
            raise ValueError("decay = 0 leaves the rate of schedule 'wsd' as it is: set 'constant'")
        if self.schedule == "plateau" and not self.patience:
            raise ValueError("schedule 'plateau' depends on patience: set patience above 0")
        if self.finish != "own" and self.schedule not in ("wsd", "course"):
            raise ValueError(
                f"finish = {self.finish!r} begins as a rate falls: set schedule = 'wsd'"
            )
        if (self.cpu_seconds or self.led) and self.schedule != "course":
            raise ValueError(
                f"schedule {self.schedule!r} has no cpu_seconds and is not led: set 'course'"
            )
        return self

    def every(self, updates: int) -> int:
        return self.validate_every or max(1, updates // self.validations)

    def share(self, update: int, updates: int, drops: float) -> float:
        """Return the factor on the learning rate at ``update`` of ``updates``, after ``drops``.

        Each drop is to a tenth. The fall of "wsd" is 1 - √ of the share of it that is over: Hägele
        et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations, 2024,
        arXiv:2405.18392.
        """
        dropped = math.pow(10.0, -drops)
        rising = min(1.0, (update + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            return rising * cosine(update, updates)
        if self.schedule == "wsd" and update >= (start := self.stable(updates)):
            return dropped * rising * (1 - math.sqrt((update - start) / (updates - start)))
        return rising * dropped

    def stable(self, updates: int) -> int:
        """Return the number of updates before the rate of "wsd" falls."""
        return updates - max(1, round(self.decay * updates))

    def drops(self, before: float, waiting: int) -> float:
        """Return the drops of a "plateau" after ``waiting`` validations without improvement.

        As in the code released with FFJORD: Grathwohl et al., 2018, arXiv:1810.01367.
        """
        if self.schedule != "plateau" or before >= 2:
            return before
        return before + (waiting > self.patience // 3 * (before + 1))

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
