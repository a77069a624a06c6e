"""A training that has ended goes on at a constant rate, to say whether it was still improving.

Validated are means of the weights over windows of updates: they take away most of the noise of the
rate, which would hide the trend. Izmailov et al., Averaging Weights Leads to Wider Optima and
Better Generalization, 2018, arXiv:1803.05407.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.analysis.criteria import UPDATES
from benchmarks.analysis.improvement import gain_per_doubling
from benchmarks.analysis.inference import Estimate
from benchmarks.core.case import Case
from benchmarks.training import checkpoint, schedules
from benchmarks.training.history import History
from benchmarks.training.settings import Training
from benchmarks.training.state import State
from benchmarks.training.updates import objective_at, update
from benchmarks.training.validation import Validation, in_float64
from flows.training import PATIENCE, Objective

WINDOWS = 8
SETTLING = 2  # windows at the start, in which the noise of the rate comes back: not validated


def continued(
    state: State,
    validation: Validation,
    batch: Callable[[State], Tensor],
    case: Case,
    settings: Training,
    objective: Objective,
    share: float,
) -> Estimate | None:
    """Estimate the gain of validation likelihood, nats, by as many updates again.

    The training goes on by ``share`` of its updates at its own rate without the schedule's fall;
    the state is as before afterwards. None of fewer than `criteria.UPDATES`, which are no training,
    and where an update or a density cannot be computed.
    Raises `checkpoint.Stopped` if the process was asked to stop.
    """
    done = state.update
    if share == 0 or done < UPDATES:
        return None
    goal = objective_at(done - 1, case, settings, objective)
    rate = settings.learning_rate * 10.0**-state.drops
    constant = {"schedule": "constant", "warmup": 0, "learning_rate": rate}
    steady, each = settings.model_copy(update=constant), max(1, round(share * done / WINDOWS))
    own = replace(state, history=History(), in_a_row=0)

    def step() -> bool:
        if checkpoint.stopping:
            raise checkpoint.Stopped
        update(own, batch(own), goal, steady, case)
        return own.in_a_row < PATIENCE

    with state.undone():
        if not all(step() for _ in range(SETTLING * each)):
            return None
        curves = list(_curves(own, validation, step, each))
    if len(curves) < WINDOWS - SETTLING:
        return None
    before = sum(schedules.share(settings, n, case.updates, 0) for n in range(done))
    effort = [before + each * (n + 0.5) for n in range(SETTLING, WINDOWS)]
    return gain_per_doubling(curves, effort, validation.groups)


def _curves(
    state: State, validation: Validation, step: Callable[[], bool], each: int
) -> Iterator[np.ndarray]:
    """Log-densities (N,) by the mean weights of each window, until one cannot be computed."""
    weights = list(state.flow.parameters())
    for _ in range(WINDOWS - SETTLING):
        means = [torch.zeros_like(p) for p in weights]
        for _ in range(each):
            if not step():
                return
            for mean, p in zip(means, weights, strict=True):
                mean += p.detach() / each
        own = [p.detach().clone() for p in weights]
        _copy(means, weights)
        log_prob = validation.log_prob()
        _copy(own, weights)
        if log_prob is None:
            return
        yield in_float64(log_prob)


@torch.no_grad()
def _copy(values: Sequence[Tensor], to: Sequence[Tensor]) -> None:
    for own, value in zip(to, values, strict=True):
        own.copy_(value)
