"""Levels of validation likelihood, and where a learning curve comes to them.

A curve is the arrays of a record: ``validation_ll`` (nats) and, by validation, ``validated``
(updates), ``validation_flops`` and, where it was timed, ``validation_seconds``. A curve comes to a
level at the first validation at or above it, so that sparse validations find it late, not early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

SHARES = (0.5, 0.9, 0.95, 0.99)  # of the way from the Gaussian to the best

Curve = Mapping[str, np.ndarray]


class Levels(NamedTuple):
    """Levels of validation likelihood, nats, on one data set."""

    shares: dict[float, float]  # by share of the way from the start to the best
    common: float  # the level that every seed of every flow reaches


def crossing(curve: Curve, level: float) -> int | None:
    """Index of the first validation at or above a level, nats; None if there is none."""
    above = np.flatnonzero(curve["validation_ll"] >= level)
    return int(above[0]) if len(above) else None


def cost_at(curve: Curve, axis: str, level: float) -> float:
    """Value of an axis where a curve comes to a level; infinite if it does not.

    NaN for an axis that the curve does not have: seconds that were not measured.
    """
    index = crossing(curve, level)
    if index is None:
        return float("inf")
    return float(curve[axis][index]) if axis in curve else float("nan")


def best(curve: Curve) -> float:
    """Best validation likelihood of a curve, nats."""
    return float(curve["validation_ll"].max())


def between(start: float, best: Sequence[Sequence[float]]) -> Levels:
    """Levels at `SHARES` of the way from ``start`` to the best, and the level common to all.

    ``best`` holds for each flow the best likelihood of each of its seeds. The way ends at the
    highest median over seeds, so that a single lucky seed does not set it. There are no shares
    where that is not above ``start``.
    """
    end = max(float(np.median(seeds)) for seeds in best)
    shares = {share: start + share * (end - start) for share in SHARES if end > start}
    return Levels(shares, min(min(seeds) for seeds in best))
