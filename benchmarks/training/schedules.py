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

from benchmarks.training.settings import Training
from flows.training import cosine


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
