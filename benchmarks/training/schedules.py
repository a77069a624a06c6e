"""Learning-rate schedules: the factor on the learning rate at each update.

"plateau" is the schedule of FFJORD's released code for tabular data: 1/10 once more than a third of
the patience has passed without a better validation, 1/100 after two thirds, never raised again.
Grathwohl et al., FFJORD, 2018, arXiv:1810.01367.

"wsd" is constant until the last part of the updates, in which it falls to zero as 1 - √(their
share): trainings of all lengths are one training that branches. Hägele et al., Scaling Laws and
Compute-Optimal Training Beyond Fixed Training Durations, 2024, arXiv:2405.18392.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from benchmarks.training.settings import Training
from flows.training import cosine


@dataclass
class Clock:
    """Seconds that a training takes from now on, and the updates that they are expected to hold.

    The schedule of a training by the clock is that of so many updates as it will have done at its
    end, as far as the updates until now say.
    """

    seconds: float
    begun: float = field(default_factory=lambda: time.monotonic())  # looked up then
    validated: float = 0.0  # share of the seconds until the next validation
    best: float = 0.0  # seconds until the best validation

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    @property
    def share(self) -> float:
        """Share of the seconds that has passed, at most 1."""
        return min(1.0, max(1e-9, self.passed / self.seconds))

    def fall(self, decay: float) -> bool:
        """Become the clock of the training whose last share, ``decay``, begins now.

        Its seconds are those of a training that came to its best validation at that time, and no
        more than are left. Return False, and do nothing, if the last share has begun, or no
        validation was the best yet.
        """
        if not self.best or (passed := self.passed) >= (1 - decay) * self.seconds:
            return False
        length = min(self.best / (1 - decay), (self.seconds - passed) / decay)
        self.begun += passed - (1 - decay) * length
        self.seconds, self.validated = length, 1 - decay / 2
        return True

    def updates(self, done: int) -> int:
        """Updates of the whole training: at the end those that are ``done``."""
        return max(done, 1) if (passed := self.share) == 1 else math.ceil((done + 1) / passed)

    def validates(self, validations: int) -> bool:
        """Whether one of so many validations is due, the first at once; what was missed is not."""
        if (passed := self.share) < self.validated:
            return False
        self.validated = (math.floor(passed * validations) + 1) / validations
        return True


def share(settings: Training, update: int, updates: int, drops: float) -> float:
    """Return the factor at ``update`` of ``updates``, after ``drops`` to a tenth each."""
    dropped = math.pow(10.0, -drops)
    rising = min(1.0, (update + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "cosine":
        return rising * cosine(update, updates)
    if settings.schedule == "wsd" and update >= (start := stable(settings, updates)):
        return dropped * rising * (1 - math.sqrt((update - start) / (updates - start)))
    return rising * dropped


def stable(settings: Training, updates: int) -> int:
    """Return the number of updates before the rate of "wsd" falls."""
    return updates - max(1, round(settings.decay * updates))


def drops(settings: Training, before: float, waiting: int) -> float:
    """Return the drops of a plateau after ``waiting`` validations without improvement."""
    if settings.schedule != "plateau" or before >= 2:
        return before
    return before + (waiting > settings.patience // 3 * (before + 1))
