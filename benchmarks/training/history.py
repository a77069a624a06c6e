"""What a training went through, and what of it a record keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class History:
    """Seconds are without the validations; evaluations are (forward, backward) of the field."""

    updates: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    skipped: int = 0
    stopped: str = ""  # "patience" or "time", where it ended before its last update
    evaluations: tuple[int, int] = (0, 0)
    step_flops: tuple[int, int] = (0, 0)  # of one update that was counted: forward, backward
    step_evaluations: tuple[int, int] = (0, 0)  # of that update
    validated: list[int] = field(default_factory=list)  # updates done at each validation
    validation_ll: list[float] = field(default_factory=list)
    validation_se: list[float] = field(default_factory=list)  # over the validation rows
    validation_seconds: list[float] = field(default_factory=list)  # training time until then
    validation_evaluations: list[tuple[int, int]] = field(default_factory=list)

    def flops(self) -> np.ndarray:
        """FLOPs of training until each validation, (validations,).

        Those of the counted update, times the updates or, where an ODE was solved, the evaluations.
        """
        forward, backward = self.step_flops
        if not self.step_evaluations[0]:
            return (forward + backward) * np.array(self.validated, dtype=float)
        done = np.array(self.validation_evaluations, dtype=float).reshape(-1, 2)
        there, back = (done[:, side] / max(1, self.step_evaluations[side]) for side in (0, 1))
        return forward * there + backward * (back if self.step_evaluations[1] else there)

    def metrics(self) -> dict[str, float | list[float]]:
        """What a record says of the training."""
        found: dict[str, float | list[float]] = {
            "train_seconds": self.seconds,
            "train_updates": self.updates,
            "train_flops": float(self.flops()[-1]),
            "skipped_updates": self.skipped,
        }
        if self.evaluations[0]:
            found["train_nfe"] = sum(self.evaluations) / max(1, self.updates)
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """The curves of a record."""
        return {
            "losses": np.array(self.losses, dtype=np.float32),
            "validated": np.array(self.validated),
            "validation_ll": np.array(self.validation_ll),
            "validation_se": np.array(self.validation_se),
            "validation_seconds": np.array(self.validation_seconds),
            "validation_flops": self.flops(),
        }
