"""The one training loop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

import flows
from benchmarks.analysis.stats import standard_error
from benchmarks.core.case import Case
from benchmarks.datasets import Dataset
from benchmarks.measure.dispatched import counting
from benchmarks.training import checkpoint, schedules
from benchmarks.training.continuation import continued
from benchmarks.training.history import History
from benchmarks.training.settings import Training
from benchmarks.training.state import State, initial_state
from benchmarks.training.updates import (
    PATIENCE,
    Objective,
    count,
    next_batch,
    objective_at,
    own_loss,
    update,
)
from benchmarks.training.validation import Validation, in_float64

Observer = Callable[[int], tuple[int | float, ...] | None]  # of the number of updates done


class TrainingError(RuntimeError):
    """A training that cannot go on; the message gives the reason."""


def train(
    flow: flows.Flow,
    data: Dataset,
    case: Case,
    settings: Training,
    *,
    objective: Objective = own_loss,
    observe: Observer = lambda update: None,
    continuation: float = 0.0,
) -> History:
    """Train a flow in place for at most ``case.updates`` updates, and return the history.

    Validation is by the exact trace and an adaptive solver, whatever the training uses. An update
    whose loss or gradient is not finite, or whose ODE cannot be solved, is skipped. ``observe`` is
    called before each update and after the last, outside the measured seconds; what it returns,
    unless None, is appended to ``history.observations``. The weights at the end are those that
    ``settings.keep`` names. With a ``continuation``, a share of the updates, ``history.gain`` says
    whether the training was still improving; nothing else in the history counts what that takes.

    If `checkpoint.slot` names a file for the case, the state is written there every
    `checkpoint.SECONDS`, and a training that finds one of its own resumes from it, or from that of
    a shorter training on the same way (`checkpoint.plateau`).

    Raises `checkpoint.Stopped` if the process was asked to stop, TrainingError after `PATIENCE`
    skipped updates in a row, and ValueError if rows are to be fresh and the data set has no
    distribution to draw them from.
    """
    source = settings.source(data)
    state, slot = initial_state(flow, case, settings), checkpoint.slot(case)
    name = getattr(objective, "__qualname__", type(objective).__qualname__)
    owner = f"{case.key} {name} {settings.model_dump_json()}"
    rows = data.train.to(case.device, getattr(torch, case.dtype))
    shared, stable = checkpoint.plateau(case, settings), schedules.stable(settings, case.updates)
    files = [(slot, owner, case.updates), (shared, name, stable)]
    if not any(path and checkpoint.read(path, state, of, to, len(rows)) for path, of, to in files):
        count(state, rows[: case.batch], objective)
    history, validation = state.history, Validation(flow, data, case, settings)
    history.alone = settings.time_limit > 0  # decided by the clock, so nothing may run beside it

    def batch(of: State) -> Tensor:
        return next_batch(of, case, source, rows)

    every, written = settings.every(case.updates), time.monotonic()
    while True:
        if shared and state.update == stable:
            checkpoint.write(shared, state, name)
        late = 0 < settings.time_limit <= history.seconds and state.update < case.updates
        over = late or state.update == case.updates
        if over or state.update % every == 0:
            _validate(state, validation, settings)
            if settings.patience and state.waiting > settings.patience:
                over, history.stopped = True, "patience"
        if late:
            history.stopped = "time"
        if (observation := observe(state.update)) is not None:
            history.observations.append(observation)
        if over:
            break
        x = batch(state)
        goal = objective_at(state.update, case, settings, objective)
        if not history.counts or (goal is not objective and len(history.counts) < 2):
            count(state, x, goal)
        fault = update(state, x, goal, settings, case)
        if state.in_a_row >= PATIENCE:
            raise TrainingError(
                f"{state.in_a_row} updates in a row failed, the last ({state.update - 1}): {fault}"
            )
        due = time.monotonic() - written >= checkpoint.SECONDS
        if slot is not None and (due or checkpoint.stopping):
            checkpoint.write(slot, state, owner)
            written = time.monotonic()
        if checkpoint.stopping:
            raise checkpoint.Stopped
    history.gain = continued(state, validation, batch, case, settings, objective, continuation)
    if settings.keep == "best":
        flow.load_state_dict(state.best)
    history.snapshots = state.snapshots
    return history


def _validate(state: State, validation: Validation, settings: Training) -> None:
    """Add a validation to the history; keep the weights if they are the best so far."""
    history, score, error = state.history, -math.inf, math.nan
    if (log_prob := validation.log_prob()) is not None:
        rows = in_float64(log_prob)
        score, error = log_prob.mean().item(), standard_error(rows, validation.groups)
    history.validated.append(state.update)
    history.validation_ll.append(score)
    history.validation_se.append(error)
    history.validation_seconds.append(history.seconds)
    history.validation_evaluations.append(history.evaluations)
    if score > state.score:
        state.score, state.best = score, copy.deepcopy(state.flow.state_dict())
        state.waiting = 0
    else:
        state.waiting += 1
    if not counting():  # for times afterwards
        state.add_snapshot()
    state.drops = schedules.drops(settings, state.drops, state.waiting)
