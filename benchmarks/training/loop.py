"""Trainings of cases: the one loop with counts, seconds, validations and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

import flows
from benchmarks.analysis.inference import standard_error
from benchmarks.core.case import Case
from benchmarks.datasets import Dataset
from benchmarks.measure.operations import counting
from benchmarks.training import checkpoint, schedules
from benchmarks.training.continuation import continued
from benchmarks.training.history import History
from benchmarks.training.settings import Training
from benchmarks.training.state import State, initial_state
from benchmarks.training.updates import count, next_batch, objective_at, update
from benchmarks.training.validation import Validation, in_float64
from flows.training import Objective, Turns, loop, own_loss

Observer = Callable[[int], tuple[int | float, ...] | None]  # of the number of updates done


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
    ``settings.keep`` names. With ``settings.clock`` seconds end the training in place of updates,
    and it leaves no checkpoint; patience does not end it, but lets the rate fall. With a
    ``continuation``, a share of the updates, ``history.gain`` says whether the training was still
    improving; nothing else in the history counts what that takes.

    If `checkpoint.slot` names a file for the case, the state is written there every
    `checkpoint.SECONDS`, and a training that finds one of its own resumes from it, or from that of
    a shorter training on the same way (`checkpoint.plateau`).

    Raises `checkpoint.Stopped` if the process was asked to stop, `flows.training.TrainingError`
    after many skipped updates in a row, and ValueError if rows are to be fresh and the data set has
    no distribution to draw them from.
    """
    turns = _Turns(flow, data, case, settings, objective, observe)
    state, history = turns.state, turns.state.history
    end = loop(state, turns)
    history.stopped = "patience" if turns.fell else "" if end == "updates" else end
    share = 0.0 if turns.fell else continuation
    history.gain = continued(
        state, turns.validation, turns.batch, turns.case, settings, objective, share
    )
    if settings.keep == "best":
        flow.load_state_dict(state.best)
    history.snapshots = state.snapshots
    return history


class _Turns(Turns):
    """The turns of a training that is counted, timed and written to checkpoints."""

    def __init__(
        self,
        flow: flows.Flow,
        data: Dataset,
        case: Case,
        settings: Training,
        objective: Objective,
        observer: Observer,
    ) -> None:
        self.case, self.settings, self.objective = case, settings, objective
        self.observer = observer
        self.source = settings.source(data)
        self.state = initial_state(flow, case, settings)
        self.clock = schedules.Clock(settings.clock) if settings.clock else None
        self.patience = 0 if self.clock else settings.patience
        self.fell = False  # whether the patience with a clock is over
        self.slot = None if self.clock else checkpoint.slot(case)
        self.name = getattr(objective, "__qualname__", type(objective).__qualname__)
        self.owner = f"{case.key} {self.name} {settings.model_dump_json()}"
        self.rows = data.train.to(case.device, getattr(torch, case.dtype))
        self.shared = checkpoint.plateau(case, settings)
        self.stable = schedules.stable(settings, case.updates)
        if not self._resumed():
            count(self.state, self.rows[: case.batch], objective)
        self.validation = Validation(flow, data, case, settings)
        # decided by the clock, so nothing may run beside it
        self.state.history.alone = settings.time_limit > 0
        self.every, self.written = settings.every(case.updates), time.monotonic()

    def _resumed(self) -> bool:
        """Whether a checkpoint was read, of this training or of a shorter one on the same way."""
        files = (
            (self.slot, self.owner, self.case.updates),
            (self.shared, self.name, self.stable),
        )
        return any(
            path and checkpoint.read(path, self.state, owner, latest, len(self.rows))
            for path, owner, latest in files
        )

    def begin(self) -> None:
        if self.clock:
            updates = self.clock.updates(self.state.update)
            self.case = self.case.model_copy(update={"updates": updates})
        if self.shared and self.state.update == self.stable:
            checkpoint.write(self.shared, self.state, self.name)

    def end(self) -> str:
        if self.state.update == self.case.updates:
            return "updates"
        return "time" if 0 < self.settings.time_limit <= self.state.history.seconds else ""

    def due(self) -> bool:
        if self.clock:
            return self.clock.validates(self.settings.validations)
        return self.state.update % self.every == 0

    def validate(self) -> None:
        state, score, error = self.state, -math.inf, math.nan
        if (log_prob := self.validation.log_prob()) is not None:
            rows = in_float64(log_prob)
            score, error = log_prob.mean().item(), standard_error(rows, self.validation.groups)
        state.history.add_validation(score, error)
        state.keep_best(score)
        if not counting():  # for times afterwards
            state.add_snapshot()
        state.drops = schedules.drops(self.settings, state.drops, state.waiting)
        if self.clock:
            self._fall(self.clock)

    def _fall(self, clock: schedules.Clock) -> None:
        """Go back to the best weights once the patience is over, from where the rate falls."""
        state, settings, back = self.state, self.settings, False
        over = 0 < settings.patience < state.waiting
        if not state.waiting:
            clock.best, self.halved = clock.passed, False
        elif clock.share >= 1 - settings.decay:  # the rate falls, from the best weights
            back, self.halved = self.halved, False
        elif over and self.halved:
            back = self.fell = clock.fall(settings.decay)
            self.halved = not back
        elif over:
            back = self.halved = True
            state.drops += math.log10(2)
            state.waiting = 0
        if back:
            state.flow.load_state_dict(state.best)

    def observe(self) -> None:
        if (observation := self.observer(self.state.update)) is not None:
            self.state.history.observations.append(observation)

    def update(self) -> str:
        state, settings = self.state, self.settings
        x = self.batch(state)
        goal = objective_at(state.update, self.case, settings, self.objective)
        counts = len(state.history.counts)
        if not counts or (goal is not self.objective and counts < 2):
            count(state, x, goal)
        return update(state, x, goal, settings, self.case)

    def close(self) -> None:
        due = time.monotonic() - self.written >= checkpoint.SECONDS
        if self.slot is not None and (due or checkpoint.stopping):
            checkpoint.write(self.slot, self.state, self.owner)
            self.written = time.monotonic()
        if checkpoint.stopping:
            raise checkpoint.Stopped

    def batch(self, of: State) -> Tensor:
        """The next batch (N, D) of a state."""
        return next_batch(of, self.case, self.source, self.rows)
