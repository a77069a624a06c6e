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
from benchmarks.measure.clock import synchronise
from benchmarks.measure.dispatched import counting
from benchmarks.measure.operations import Operations
from benchmarks.training import checkpoint, schedules
from benchmarks.training.history import Count, History
from benchmarks.training.settings import Sampler, Training
from benchmarks.training.state import State, initial_state
from flows.continuous import SolveError

PATIENCE = 20  # updates in a row without a finite loss after which a training has failed
CHUNK = 5000  # validation rows at once

Objective = Callable[[flows.Flow, Tensor], Tensor]  # of a flow and a batch (N, D), to be minimised
Observer = Callable[[int], tuple[int | float, ...] | None]  # of the number of updates done


class TrainingError(RuntimeError):
    """A training that cannot go on; the message gives the reason."""


def own_loss(flow: flows.Flow, x: Tensor) -> Tensor:
    """Return the flow's own loss of a batch, the default objective.

    `Flow.loss` itself would be the likelihood for every flow, whatever its class overrides.
    """
    return flow.loss(x)


def likelihood(flow: flows.Flow, x: Tensor) -> Tensor:
    """Return the negative log-likelihood of a batch, whatever the flow's own loss is."""
    return flows.Flow.loss(flow, x)


def objective_at(
    update: int, case: Case, settings: Training, objective: Objective = own_loss
) -> Objective:
    """Return what an update minimises: ``objective``, or the likelihood where that finishes."""
    last = settings.finish == "likelihood" and update >= schedules.stable(settings, case.updates)
    return likelihood if last else objective


def train(
    flow: flows.Flow,
    data: Dataset,
    case: Case,
    settings: Training,
    *,
    objective: Objective = own_loss,
    observe: Observer = lambda update: None,
) -> History:
    """Train a flow in place for at most ``case.updates`` updates, and return the history.

    Validation is by the exact trace and an adaptive solver, whatever the training uses. An update
    whose loss or gradient is not finite, or whose ODE cannot be solved, is skipped. ``observe`` is
    called before each update and after the last, outside the measured seconds; what it returns,
    unless None, is appended to ``history.observations``. The weights at the end are those that
    ``settings.keep`` names.

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
        _count(state, rows[: case.batch], objective)
    history, validate = state.history, _validation(flow, data, case, settings)
    history.alone = settings.time_limit > 0  # decided by the clock, so nothing may run beside it
    every, written = settings.every(case.updates), time.monotonic()
    while True:
        if shared and state.update == stable:
            checkpoint.write(shared, state, name)
        late = 0 < settings.time_limit <= history.seconds and state.update < case.updates
        over = late or state.update == case.updates
        if over or state.update % every == 0:
            validate(state)
            if settings.patience and state.waiting > settings.patience:
                over, history.stopped = True, "patience"
        if late:
            history.stopped = "time"
        if (observation := observe(state.update)) is not None:
            history.observations.append(observation)
        if over:
            break
        x = next_batch(state, case, source, rows)
        goal = objective_at(state.update, case, settings, objective)
        if not history.counts or (goal is not objective and len(history.counts) < 2):
            _count(state, x, goal)
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
    if settings.keep == "best":
        flow.load_state_dict(state.best)
    history.snapshots = state.snapshots
    return history


def next_batch(state: State, case: Case, source: Sampler | None, rows: Tensor) -> Tensor:
    """Return the next batch (N, D): fresh rows of the source, or rows of the training set."""
    if source is not None:
        return source(case.batch, state.generator).to(rows)
    if len(state.order) < case.batch:
        state.order = torch.randperm(len(rows), generator=state.generator)
    picks, state.order = state.order[: case.batch], state.order[case.batch :]
    return rows[picks.to(case.device)]


def update(state: State, x: Tensor, objective: Objective, settings: Training, case: Case) -> str:
    """Make one timed and counted update; return the reason if it was skipped, else ""."""
    history = state.history
    share = schedules.share(settings, state.update, case.updates, state.drops)
    for group in state.optimiser.param_groups:
        group["lr"] = settings.learning_rate * share
    with flows.count_nfe(state.flow) as nfe:
        synchronise(case.device)
        start = time.perf_counter()
        loss, fault = _step(state.flow, x, objective, state.optimiser, settings.clip)
        synchronise(case.device)
        seconds = time.perf_counter() - start
    history.add_update(loss, nfe.forward, nfe.backward, seconds)
    history.skipped += bool(fault)
    state.in_a_row = state.in_a_row + 1 if fault else 0
    state.update += 1
    return fault


def _step(
    flow: flows.Flow, x: Tensor, objective: Objective, optimiser: torch.optim.Optimizer, clip: float
) -> tuple[float, str]:
    """Step the optimiser; return the loss, and the reason if the weights were left unchanged."""
    optimiser.zero_grad()
    try:
        loss = objective(flow, x)
        loss.backward()
    except SolveError as error:
        return math.nan, str(error)
    norm = torch.nn.utils.clip_grad_norm_(flow.parameters(), clip or math.inf)
    if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
        return math.nan, f"loss {loss.item():.3g}, gradient norm {norm.item():.3g}"
    optimiser.step()
    return loss.item(), ""


def _count(state: State, x: Tensor, objective: Objective) -> None:
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
    count = (forward.flops, backward.flops), (nfe.forward, nfe.backward)
    first = state.update if state.history.counts else 0
    state.history.counts.append(Count(first, *count))


def _validation(
    flow: flows.Flow, data: Dataset, case: Case, settings: Training
) -> Callable[[State], None]:
    """Return the function that validates a state on the first rows of the validation set."""
    tolerance = settings.validation_tolerance
    solver = {"method": "dopri5", "rtol": tolerance, "atol": tolerance}
    exact = flow.using(trace="exact", solver=solver)
    rows = data.val[: settings.validation_rows].to(case.device, getattr(torch, case.dtype))
    groups = None if data.val_groups is None else data.val_groups[: len(rows)].numpy()

    @torch.no_grad()
    def validate(state: State) -> None:
        score, error = -math.inf, math.nan
        try:
            log_probs = torch.cat([exact.log_prob(part) for part in torch.split(rows, CHUNK)])
        except SolveError:
            pass
        else:
            if math.isfinite(mean := log_probs.mean().item()):
                score, error = mean, standard_error(log_probs.double().cpu().numpy(), groups)
        _note(state, score, error, settings)

    return validate


def _note(state: State, score: float, error: float, settings: Training) -> None:
    """Add a validation to the history; keep the weights if they are the best so far."""
    history = state.history
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
