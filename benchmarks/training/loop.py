"""Trainings of cases: the one loop with counts, seconds, validations and checkpoints.

Training reports its FLOPs, by those of one update, and the CPU seconds of its own process. After it
has ended it may go on at a constant rate, to say whether it was still improving.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

import flows
from benchmarks.analysis.criteria import UPDATES
from benchmarks.analysis.improvement import gain_per_doubling
from benchmarks.analysis.inference import Estimate, standard_error
from benchmarks.core.case import Case
from benchmarks.datasets import Dataset
from benchmarks.measure.clock import Spent, reference_seconds, synchronise
from benchmarks.measure.operations import Operations, counting
from benchmarks.training import checkpoint
from benchmarks.training.settings import Sampler, Training
from benchmarks.training.state import Count, History, State, initial_state, prepared
from flows import training
from flows.continuous import SolveError
from flows.training import Course, Objective, Turns, likelihood, log_densities, own_loss

CHUNK = 5000  # validation rows at once
WINDOWS = 8  # of a continuation
SETTLING = 2  # windows at its start, in which the noise of the rate comes back: not validated
LEAST = 3  # updates that a rate is measured by
ENDLESS = 1_000_000  # updates of a training whose rate is measured
EARLY = 0.1  # share of a time limit before which no rate is known
TAIL = 64  # validations that the gain of a course is estimated from, at most

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
    unless None, is appended to ``history.observations``. An ``objective`` with a method ``advance``
    is told the share of the updates that were made before each. The weights at the end are those
    that ``settings.keep`` names; of a course they are the best of the means. With a
    ``continuation``, a share of the updates, ``history.gain`` says whether the training was still
    improving; nothing else in the history counts what that takes. A course says so by the last half
    of its plateau.

    If `checkpoint.slot` names a file for the case, the state is written there every
    `checkpoint.SECONDS`, and a training that finds one of its own resumes from it, or from that of
    a shorter training on the same way (`checkpoint.plateau`).

    Raises `checkpoint.Stopped` if the process was asked to stop, `flows.training.TrainingError`
    after many skipped updates in a row, and ValueError if rows are to be fresh and the data set has
    no distribution to draw them from.
    """
    turns = _Turns(flow, data, case, settings, objective, observe)
    state, history = turns.state, turns.state.history
    end = training.loop(state, turns)
    history.stopped = "" if end == "updates" else end
    if state.course is None:
        history.gain = continued(turns, continuation)
    else:
        turns.conclude(state.course)
    if settings.keep == "best":
        flow.load_state_dict(state.best)
    return history


def update_rates(case: Case, data: Dataset, seconds: float) -> list[float]:
    """Return the updates a second of a training, from its first ``seconds``; 1 if none is timed.

    They are those of the median update of their second half: an ODE takes more evaluations once its
    field has learned something. A training that the likelihood finishes has a second rate.
    """
    flow, settings = prepared(case, data)
    state, source = initial_state(flow, case, settings), settings.source(data)
    rows = data.train.to(case.device, getattr(torch, case.dtype))
    seconds, endless = 0.0 if counting() else seconds, case.changed(updates=ENDLESS)
    rates = []
    for objective in (own_loss, likelihood) if settings.finish == "likelihood" else (own_loss,):
        start, until = time.perf_counter(), [state.history.seconds]
        while len(until) <= LEAST or time.perf_counter() - start < seconds:
            update(state, next_batch(state, case, source, rows), objective, settings, endless)
            until.append(state.history.seconds)
        late = np.diff(until)[(len(until) - 1) // 2 :]
        rates.append(1.0 if counting() else float(1 / np.median(late)))
    return rates


def next_batch(state: State, case: Case, source: Sampler | None, rows: Tensor) -> Tensor:
    """Return the next batch (N, D): fresh rows of the source, or rows of the training set."""
    if source is not None:
        return source(case.batch, state.generator).to(rows)
    return rows[state.picks(len(rows), case.batch).to(case.device)]


def update(state: State, x: Tensor, objective: Objective, settings: Training, case: Case) -> str:
    """Make one timed and counted update; return the reason if it was skipped, else ""."""
    history = state.history
    share = settings.share(state.update, case.updates, state.drops)
    share *= state.course.factor if state.course else 1.0
    with flows.count_nfe(state.flow) as nfe:
        synchronise(case.device)
        start, spent = time.perf_counter(), Spent(case.device)
        loss, fault = state.step(x, objective, settings.learning_rate * share, settings.clip)
        synchronise(case.device)
        history.seconds += time.perf_counter() - start
        history.cpu_seconds += spent.cpu_seconds
        history.busy_seconds += spent.busy_seconds
    if course := state.course:
        seconds = history.busy_seconds or history.cpu_seconds
        course.spent = history.updates + 1 if course.count else seconds
    history.losses.append(loss)
    history.update_evaluations.append((nfe.forward, nfe.backward))
    history.skipped += bool(fault)
    return fault


def count(state: State, x: Tensor, objective: Objective) -> None:
    """Count FLOPs and evaluations of an update at x by a copy of the flow, if it can be solved."""
    device = [x.device] if x.device.type == "cuda" else []
    flow = copy.deepcopy(state.flow)
    with torch.random.fork_rng(device), flows.count_nfe(flow) as nfe:
        try:
            with Operations() as forward:
                loss = objective(flow, x)
            with Operations() as backward:
                loss.backward()
        except SolveError:
            return
    first = state.update if state.history.counts else 0
    flops, evaluations = (forward.flops, backward.flops), (nfe.forward, nfe.backward)
    state.history.counts.append(Count(first, flops, evaluations))


class _Turns(Turns):
    """The turns of a training that is counted, timed and written to checkpoints."""

    state: State

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
        self.patience = settings.patience
        self.stable: float = settings.stable(case.updates)
        self.slot = checkpoint.slot(case)
        self.name = getattr(objective, "__qualname__", type(objective).__qualname__)
        self.owner = f"{case.key} {self.name} {settings.model_dump_json()}"
        dtype = getattr(torch, case.dtype)
        self.rows = data.train.to(case.device, dtype)
        self.shared = checkpoint.plateau(case, settings)
        course = self._course() if settings.schedule == "course" else None
        if course:
            self.state.follow(course)
            self.patience, self.stable = 0, course.plateau
            self.state.history.reference = [reference_seconds()]
        if not self._resumed():
            count(self.state, self.rows[: case.batch], objective)
        tolerance = settings.validation_tolerance
        solver = {"method": "dopri5", "rtol": tolerance, "atol": tolerance}
        self.exact = self.state.validated.using(trace="exact", solver=solver)
        self.held_out = data.val[: settings.validation_rows].to(case.device, dtype)
        groups = data.val_groups
        self.groups = None if groups is None else groups[: len(self.held_out)].numpy()
        # decided by the clock, so nothing may run beside it
        self.state.history.alone = settings.time_limit > 0 and not course
        self.every, self.begun = settings.every(case.updates), time.monotonic()
        self.written = self.begun
        self.before = self.state.course.spent if self.state.course else 0.0  # as resumed
        self.amount = course.amount if course else 0.0

    def _course(self) -> Course:
        settings, case = self.settings, self.case
        if settings.led:
            return Course.led_by(settings.led)
        if settings.cpu_seconds and case.threads != 1:
            raise ValueError(
                f"threads = {case.threads}: cpu_seconds are those of one thread, set threads = 1"
            )
        epoch = max(1, len(self.rows) // case.batch)
        if settings.cpu_seconds and not counting():
            return Course(settings.cpu_seconds, settings.decay, epoch)
        return Course(case.updates, settings.decay, epoch, count=True)

    def _resumed(self) -> bool:
        """Whether a checkpoint was read, of this training or of a shorter one on the same way."""
        if self.slot and checkpoint.read(self.slot, self.state, self.owner, math.inf):
            return True
        course = self.state.course
        shared = self.shared and checkpoint.read(self.shared, self.state, self.name, self.stable)
        if shared and course and self.state.course:
            self.state.course.amount, self.state.course.decay = course.amount, course.decay
        return bool(shared)

    def begin(self) -> None:
        super().begin()
        if not self.state.course and self.shared and self.state.update == self.stable:
            checkpoint.write(self.shared, self.state, self.name)

    def end(self) -> str:
        if self.state.course:
            return super().end()
        if self.state.update == self.case.updates:
            return "updates"
        return "time" if 0 < self.settings.time_limit <= self.state.history.seconds else ""

    def due(self) -> bool:
        return super().due() if self.state.course else self.state.update % self.every == 0

    def log_prob(self, rows: int | None = None) -> Tensor | None:
        """Exact log-density of each validation row, nats, (N,); None without a finite mean."""
        held_out = self.held_out[:rows] if rows else self.held_out
        return log_densities(self.exact, [(part, None) for part in torch.split(held_out, CHUNK)])

    def validate(self) -> None:
        state, course, score, error = self.state, self.state.course, -math.inf, math.nan
        rows, spent = course.rows or None if course else None, Spent(self.case.device)
        if (log_prob := self.log_prob(rows)) is not None:
            groups = None if self.groups is None else self.groups[: len(log_prob)]
            score = log_prob.mean().item()
            error = standard_error(log_prob.double().cpu().numpy(), groups)
        state.history.add_validation(score, error)
        if course and log_prob is not None and not course.falls:
            state.tail = [one for one in state.tail if one[0] >= course.spent / 2][-TAIL:]
            state.tail.append((course.spent, log_prob.double().cpu()))
        state.note(score, spent.seconds, len(self.held_out))
        state.drops = self.settings.drops(state.drops, state.waiting)

    def conclude(self, course: Course) -> None:
        """Choose between best and last weights on all validation rows, and note the gain."""
        state, history = self.state, self.state.history
        history.reference.append(reference_seconds())
        if self.shared and not course.falls:
            checkpoint.write(self.shared, state, self.name)
        history.final, log_prob = state.conclude(self.log_prob)
        history.log_prob = [] if log_prob is None else log_prob.double().cpu().tolist()
        history.course = course.decisions()
        effort, rows = zip(*state.tail, strict=True) if state.tail else ((), ())
        if course.falls and not course.returned and len(effort) >= LEAST:
            groups = None if self.groups is None else self.groups[: course.rows]
            curves = torch.stack([values[: course.rows] for values in rows])
            history.gain = gain_per_doubling(curves.numpy(), effort, groups)

    def observe(self) -> None:
        if (observation := self.observer(self.state.update)) is not None:
            self.state.history.observations.append(observation)

    def goal(self, update: int) -> Objective:
        """What an update minimises: the objective, or the likelihood where that finishes."""
        if advance := getattr(self.objective, "advance", None):
            advance(update / self.case.updates)
        if self.settings.finish == "own":
            return self.objective
        course = self.state.course
        last = course.falls if course else update >= self.settings.stable(self.case.updates)
        return likelihood if last else self.objective

    def update(self) -> str:
        state = self.state
        x, goal = next_batch(state, self.case, self.source, self.rows), self.goal(state.update)
        counts = len(state.history.counts)
        if not counts or (goal is not self.objective and counts < 2):
            count(state, x, goal)
        fault = update(state, x, goal, self.settings, self.case)
        course, limit = state.course, self.settings.time_limit
        share = (time.monotonic() - self.begun) / limit if limit else 0.0
        if course and share >= EARLY and not counting():  # to end at what it comes to in time
            reached = self.before + (course.spent - self.before) / share
            longest = course.amount if course.returned else self.amount
            course.amount = max(course.spent, min(longest, reached))
        return fault

    def close(self) -> None:
        due = time.monotonic() - self.written >= checkpoint.SECONDS
        if self.slot is not None and (due or checkpoint.stopping):
            checkpoint.write(self.slot, self.state, self.owner)
            self.written = time.monotonic()
        if checkpoint.stopping:
            raise checkpoint.Stopped


def continued(turns: _Turns, share: float) -> Estimate | None:
    """Estimate the gain of validation likelihood, nats, by as many updates again.

    The training goes on by ``share`` of its updates at its own rate without the schedule's fall;
    the state is as before afterwards. Validated are means of the weights over windows of updates:
    they take away most of the noise of the rate, which would hide the trend. None of fewer than
    `criteria.UPDATES`, which are no training, and where an update or a density cannot be computed.
    Raises `checkpoint.Stopped` if the process was asked to stop. Izmailov et al., Averaging Weights
    Leads to Wider Optima and Better Generalization, 2018, arXiv:1803.05407.
    """
    state, settings, case = turns.state, turns.settings, turns.case
    done = state.update
    if share == 0 or done < UPDATES:
        return None
    goal, rate = turns.goal(done - 1), settings.learning_rate * 10.0**-state.drops
    constant = {"schedule": "constant", "warmup": 0, "learning_rate": rate}
    steady, each = settings.model_copy(update=constant), max(1, round(share * done / WINDOWS))
    branch = replace(state, history=History(), in_a_row=0)

    def step() -> bool:
        if checkpoint.stopping:
            raise checkpoint.Stopped
        x = next_batch(branch, case, turns.source, turns.rows)
        update(branch, x, goal, steady, case)
        return branch.in_a_row < training.PATIENCE

    with state.undone():
        if not all(step() for _ in range(SETTLING * each)):
            return None
        curves = list(_curves(turns, step, each))
    if len(curves) < WINDOWS - SETTLING:
        return None
    before = sum(settings.share(n, case.updates, 0) for n in range(done))
    effort = [before + each * (n + 0.5) for n in range(SETTLING, WINDOWS)]
    return gain_per_doubling(curves, effort, turns.groups)


def _curves(turns: _Turns, step: Callable[[], bool], each: int) -> Iterator[np.ndarray]:
    """Log-densities (N,) by the mean weights of each window, until one cannot be computed."""
    weights = list(turns.state.flow.parameters())
    for _ in range(WINDOWS - SETTLING):
        means = [torch.zeros_like(p) for p in weights]
        for _ in range(each):
            if not step():
                return
            for mean, p in zip(means, weights, strict=True):
                mean += p.detach() / each
        last = [p.detach().clone() for p in weights]
        _copy(means, weights)
        log_prob = turns.log_prob()
        _copy(last, weights)
        if log_prob is None:
            return
        yield log_prob.double().cpu().numpy()


@torch.no_grad()
def _copy(values: Sequence[Tensor], to: Sequence[Tensor]) -> None:
    for target, value in zip(to, values, strict=True):
        target.copy_(value)
