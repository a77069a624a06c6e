"""Levels of validation likelihood, and where a learning curve comes to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SHARES = (0.5, 0.9, 0.95, 0.99)  # of the way from the Gaussian to the best
COMMON = "all reach"


def crossing(curve: Mapping[str, np.ndarray], level: float) -> int | None:
    """The first validation whose likelihood is at or above a level; None where there is none.

    ``curve`` are the arrays of a record: what is not frequent in them is found late, not early.
    """
    there = np.flatnonzero(curve["validation_ll"] >= level)
    return int(there[0]) if len(there) else None


def at(curve: Mapping[str, np.ndarray], axis: str, level: float) -> float:
    """Seconds, updates or FLOPs (``validation_seconds`` and so on) to a level; inf: not reached."""
    place = crossing(curve, level)
    return float("inf") if place is None else float(curve[axis][place])


def reached(curve: Mapping[str, np.ndarray]) -> float:
    """The best validation likelihood of a curve, nats."""
    return float(curve["validation_ll"].max())


def between(start: float, best: Sequence[Sequence[float]]) -> dict[str, float]:
    """Levels by name: `SHARES` of the way from ``start`` to the best, and what all come to.

    ``best`` holds for each flow what each of its seeds reached. The end of the way is the highest
    median over seeds, so that no single lucky seed sets it; where that is no better than
    ``start``, there is only what all come to.
    """
    end = max(float(np.median(seeds)) for seeds in best)
    levels = {f"{share:.0%}": start + share * (end - start) for share in SHARES if end > start}
    return levels | {COMMON: min(min(seeds) for seeds in best)}
