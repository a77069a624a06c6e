"""The history of a training, the part of it that a record keeps, and weights to time it by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from benchmarks.analysis.improvement import ERROR, FREEDOM, GAIN
from benchmarks.analysis.inference import Estimate


class Count(NamedTuple):
    """FLOPs and evaluations, forward and backward, of updates from one number on."""

    update: int
    flops: tuple[int, int]
    evaluations: tuple[int, int]


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
    counts: list[Count] = field(default_factory=list)  # of one update of each objective
    validated: list[int] = field(default_factory=list)  # updates done at each validation
    validation_ll: list[float] = field(default_factory=list)
    validation_se: list[float] = field(default_factory=list)  # clustered if rows have groups
    validation_seconds: list[float] = field(default_factory=list)  # of training until then
    validation_evaluations: list[tuple[int, int]] = field(default_factory=list)
    observations: list[tuple[int | float, ...]] = field(default_factory=list)  # see `loop.train`
    gain: Estimate | None = None  # see `continuation.continued`
    snapshots: dict[int, dict[str, Any]] = field(default_factory=dict)  # tensors, by updates done

    def flops(self) -> np.ndarray:
        """FLOPs of training until each validation, (validations,); NaN if no update was solvable.

        Those of an update are as many as were counted for one of its objective or, with an ODE,
        times the ratio of evaluations.
        """
        done = np.array(self.update_evaluations, dtype=float).reshape(-1, 2)
        flops = np.full(len(done), math.nan)
        for count in self.counts:
            forward, backward = count.flops
            there, back = done[count.update :].T / np.maximum(1, count.evaluations)[:, None]
            if not count.evaluations[0]:
                there = back = np.ones_like(there)
            elif not count.evaluations[1]:
                back = there
            flops[count.update :] = forward * there + backward * back
        until = np.concatenate([[0.0], np.cumsum(flops)])
        result: np.ndarray = until[self.validated]
        return result

    def add_update(self, loss: float, forward: int, backward: int, seconds: float) -> None:
        """Add an update: its loss (NaN if it was skipped), evaluations and seconds."""
        self.updates += 1
        self.losses.append(loss)
        self.update_evaluations.append((forward, backward))
        self.evaluations = self.evaluations[0] + forward, self.evaluations[1] + backward
        self.seconds += seconds

    def add_validation(self, score: float, error: float) -> None:
        """Add a validation: its mean log-density, nats, and the error of that over rows."""
        self.validated.append(self.updates)
        self.validation_ll.append(score)
        self.validation_se.append(error)
        self.validation_seconds.append(self.seconds)
        self.validation_evaluations.append(self.evaluations)

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
        if self.gain is not None:
            gain = self.gain
            metrics |= {GAIN: gain.value, ERROR: gain.error, FREEDOM: gain.freedom}
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
