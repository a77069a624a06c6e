"""Learning-rate schedules by name: the share of the learning rate at an update.

"plateau" is that of FFJORD's released code for tabular data: a tenth after more than a third of the
patience has passed without a better validation, a hundredth after two thirds, and never back.
Grathwohl et al., FFJORD, 2018, arXiv:1810.01367.
"""

from __future__ import annotations

import math

from benchmarks.training.settings import Training


def share(settings: Training, update: int, updates: int, drops: int) -> float:
    """The share in force at ``update`` of ``updates``, after ``drops`` of a plateau."""
    rising = min(1.0, (update + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "cosine":
        return rising * 0.5 * (1 + math.cos(math.pi * update / updates))
    return rising * 10.0**-drops


def drops(settings: Training, before: int, waiting: int) -> int:
    """Tenths that a plateau has come to, when ``waiting`` validations were no better."""
    if settings.schedule != "plateau" or before >= 2:
        return before
    return before + (waiting > settings.patience // 3 * (before + 1))
