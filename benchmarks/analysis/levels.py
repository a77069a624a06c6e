"""Levels of validation likelihood, and where a learning curve comes to them.

A curve is the arrays of a record: ``validation_ll`` (nats) and, by validation, ``validated``
(updates), ``validation_flops``, ``validation_cpu_seconds`` and, in older records,
``validation_seconds``. A curve comes to a level at the first validation at or above it, so that
sparse validations find it late, not early.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Curve = Mapping[str, np.ndarray]


def cost_at(curve: Curve, axis: str, level: float) -> float:
    """Value of an axis where a curve comes to a level, nats; infinite if it does not.

    NaN for an axis that the curve does not have: seconds that were not measured.
    """
    above = np.flatnonzero(curve["validation_ll"] >= level)
    if not len(above):
        return float("inf")
    return float(curve[axis][above[0]]) if axis in curve else float("nan")


def best(curve: Curve) -> float:
    """Best validation likelihood of a curve, nats."""
    return float(curve["validation_ll"].max())
