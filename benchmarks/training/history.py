"""The history of a training, the part of it that a record keeps, and weights to time it by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class History:
    """Counts and curves of a training; seconds are without validations.

    Evaluations are pairs (forward, backward) of the vector field; zero without an ODE. Seconds are
    of this process, and those of the training where it had the machine to itself (``alone``); of
    others `benchmarks.training.seconds` has them.
    """

    updates: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    skipped: int = 0
    alone: bool = False
    stopped: str = ""  # "patience" or "time" if the training ended before its last update
    evaluations: tuple[int, int] = (0, 0)
    update_evaluations: list[tuple[int, int]] = field(default_factory=list)  # of each update
    step_flops: tuple[int, int] | None = None  # forward, backward of one update; None: not counted
    step_evaluations: tuple[int, int] = (0, 0)  # of the same update
    validated: list[int] = field(default_factory=list)  # updates done at each validation
    validation_ll: list[float] = field(default_factory=list)
    validation_se: list[float] = field(default_factory=list)  # clustered if rows have groups
    validation_seconds: list[float] = field(default_factory=list)  # of training until then
    validation_evaluations: list[tuple[int, int]] = field(default_factory=list)
    observations: list[tuple[int | float, ...]] = field(default_factory=list)  # see `loop.train`
    snapshots: dict[int, dict[str, Any]] = field(default_factory=dict)  # tensors, by updates done

    def flops(self) -> np.ndarray:
        """FLOPs of training until each validation, (validations,); NaN if no update was solvable.

        They are those of the counted update times the number of updates or, with an ODE, times the
        ratio of evaluations.
        """
        forward, backward = self.step_flops or (math.nan, math.nan)
        if not self.step_evaluations[0]:
            return (forward + backward) * np.array(self.validated, dtype=float)
        done = np.array(self.validation_evaluations, dtype=float).reshape(-1, 2)
        there, back = (done[:, side] / max(1, self.step_evaluations[side]) for side in (0, 1))
        return forward * there + backward * (back if self.step_evaluations[1] else there)

    def add_update(self, loss: float, forward: int, backward: int, seconds: float) -> None:
        """Add an update: its loss (NaN if it was skipped), evaluations and seconds."""
        self.updates += 1
        self.losses.append(loss)
        self.update_evaluations.append((forward, backward))
        self.evaluations = self.evaluations[0] + forward, self.evaluations[1] + backward
        self.seconds += seconds

    def metrics(self) -> dict[str, float | list[float]]:
        """Metrics of a record."""
        metrics: dict[str, float | list[float]] = {
            "train_process_seconds": self.seconds,
            "train_updates": self.updates,
            "train_flops": float(self.flops()[-1]),
            "skipped_updates": self.skipped,
            "val_ll": max(self.validation_ll),
        }
        if self.alone:
            metrics["train_seconds"] = self.seconds
        if self.evaluations[0]:
            metrics["train_nfe"] = sum(self.evaluations) / max(1, self.updates)
        return metrics

    def arrays(self) -> dict[str, np.ndarray]:
        """Curves of a record, by name."""
        curves = {
            "losses": np.array(self.losses, dtype=np.float32),
            "validated": np.array(self.validated),
            "validation_ll": np.array(self.validation_ll),
            "validation_se": np.array(self.validation_se),
            "validation_flops": self.flops(),
        }
        if self.alone:
            curves["validation_seconds"] = np.array(self.validation_seconds)
        return curves
