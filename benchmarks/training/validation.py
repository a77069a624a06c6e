"""Validation: the exact log-densities of validation rows, whatever the training uses."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

import flows
from benchmarks.core.case import Case
from benchmarks.datasets import Dataset
from benchmarks.training.settings import Training
from flows.continuous import SolveError

CHUNK = 5000  # rows at once


class Validation:
    """The first rows of a validation set, by the exact trace and an adaptive solver.

    ``groups`` (N,) are the labels of rows that depend on each other, None if none do.
    """

    def __init__(self, flow: flows.Flow, data: Dataset, case: Case, settings: Training) -> None:
        tolerance = settings.validation_tolerance
        solver = {"method": "dopri5", "rtol": tolerance, "atol": tolerance}
        self.exact = flow.using(trace="exact", solver=solver)
        rows = data.val[: settings.validation_rows]
        self.rows = rows.to(case.device, getattr(torch, case.dtype))
        groups = data.val_groups
        self.groups = None if groups is None else groups[: len(rows)].numpy()

    @torch.no_grad()
    def log_prob(self) -> Tensor | None:
        """Log-density of each row, nats, (N,); None without a finite mean."""
        try:
            parts = [self.exact.log_prob(part) for part in torch.split(self.rows, CHUNK)]
        except SolveError:
            return None
        log_prob = torch.cat(parts)
        return log_prob if math.isfinite(log_prob.mean().item()) else None


def in_float64(log_prob: Tensor) -> np.ndarray:
    """Log-densities (N,) as an array in double precision."""
    values: np.ndarray = log_prob.double().cpu().numpy()
    return values
