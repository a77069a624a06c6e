"""Trainings by a peer at the settings of ours: rows, batches, learning rates and validations."""

from __future__ import annotations

import math
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor

from benchmarks.core.case import Case, different
from benchmarks.datasets import Dataset
from benchmarks.measure.peers import Arrays, Fitted, ForeignFlow
from benchmarks.training import schedules
from benchmarks.training.loop import LEAST
from benchmarks.training.settings import Training
from flows.preprocessing import fit
from flows.training import next_picks

TAKES = {"learning_rate", "clip", "schedule", "decay", "warmup", "preprocessing", "keep"}
TAKES |= {"validations", "validate_every", "validation_rows", "validation_tolerance"}


class ForeignTraining:
    """The training of a case by a peer, whose processes end with ``stack``.

    Raises ValueError for a setting that no peer follows, ForeignError where the peer fails.
    """

    def __init__(self, stack: ExitStack, case: Case, data: Dataset) -> None:
        self.settings = Training.model_validate(case.settings["training"])
        changed = different(self.settings.model_dump(), Training().model_dump())
        if others := sorted({*changed} - TAKES):
            raise ValueError(
                f"no peer trains with {others[0]} = {changed[others[0]]!r}: leave it at its default"
            )
        if self.settings.schedule == "course":
            raise ValueError("no peer follows schedule = 'course': take 'wsd' or 'cosine'")
        self.case = case
        name = self.settings.preprocessing
        self.scaling = None if name == "none" else fit(name, data.train, data.support)
        self.x, _ = self._scaled(data.train, case.dtype)
        held_out = data.val[: self.settings.validation_rows]
        self.held_out, self.ladj = self._scaled(held_out, case.dtype)
        by, size = str(case.settings["by"]), int(case.settings["parameters"])
        flow = ForeignFlow.of(by, case, self.x[: case.batch], size)
        self.flow = stack.enter_context(flow)
        self.weights: Arrays = {}
        self.losses: list[float] = []

    def rate(self, seconds: float) -> dict[str, float]:
        """Measure updates a second in about so many seconds, and those of compiling an update.

        The median update of the second half counts, as in `loop.update_rates`.
        """
        first = self._fit(self._picks(LEAST), np.full(LEAST, self.settings.learning_rate))
        count = max(LEAST, math.ceil(seconds / np.median(first.seconds[1:])))
        timed = self._fit(self._picks(count), np.full(count, self.settings.learning_rate))
        late = timed.seconds[count // 2 :]
        return {"update_rate": float(1 / np.median(late)), "step_compile_seconds": first.compiling}

    def train(self) -> dict[str, float]:
        """Make all updates, and keep the weights that the settings name; return metrics."""
        settings, updates = self.settings, self.case.updates
        shares = [schedules.share(settings, update, updates, 0) for update in range(updates)]
        picks, rates = self._picks(updates), settings.learning_rate * np.array(shares)
        best, seconds = self._validated(-math.inf), 0.0
        for start in range(0, updates, settings.every(updates)):
            part = slice(start, start + settings.every(updates))
            fitted = self._fit(picks[part], rates[part])
            self.losses += fitted.loss.tolist()
            seconds += float(fitted.seconds.sum()) - (0.0 if start else fitted.compiling)
            best = self._validated(best)
        skipped = updates - int(np.isfinite(self.losses).sum())
        metrics, _ = self.flow.count()
        metrics |= {"train_updates": updates, "train_process_seconds": seconds}
        return metrics | {"skipped_updates": skipped, "val_ll": best}

    def log_prob(self, x: Tensor) -> np.ndarray:
        """Return log-densities of rows x (N, D), nats (N,), by the weights kept, in float64."""
        z, ladj = self._scaled(x, "float64")
        with self.flow.in_float64(self.weights) as twin:
            log_prob: np.ndarray = twin.log_prob(z) + ladj
        return log_prob

    def _validated(self, best: float) -> float:
        """Keep the weights as they are now if they are to be kept; return the best score so far."""
        score = float((self.flow.log_prob(self.held_out) + self.ladj).mean())
        if score > best or self.settings.keep == "last":
            self.weights = self.flow.arrays("weights")
        return max(best, score)

    def _fit(self, picks: np.ndarray, rates: np.ndarray) -> Fitted:
        return self.flow.fit(self.x, picks, rates, self.settings.clip)

    def _picks(self, updates: int) -> np.ndarray:
        """Rows of each update (updates, N), those of `flows.training.State.picks`."""
        generator = torch.Generator().manual_seed(self.case.seeds.batches)
        order, batches = torch.empty(0, dtype=torch.long), []
        for _ in range(updates):
            picks, order = next_picks(order, len(self.x), self.case.batch, generator)
            batches.append(picks.numpy())
        return np.stack(batches)

    def _scaled(self, x: Tensor, dtype: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows behind the preprocessing, (N, D), and its log-determinant in float64, (N,)."""
        z, ladj = (x, x.new_zeros(len(x))) if self.scaling is None else self.scaling(x)
        return z.to(getattr(torch, dtype)).numpy(), ladj.numpy()
