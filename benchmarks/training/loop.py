"""The one training loop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import flows
from benchmarks.analysis.stats import standard_error
from benchmarks.core.case import Case
from benchmarks.datasets import Dataset
from benchmarks.measure.clock import synchronise
from benchmarks.measure.operations import Operations
from benchmarks.training import checkpoint as checkpoints
from benchmarks.training import schedules
from benchmarks.training.history import History
from benchmarks.training.settings import Sampler, Training
from benchmarks.training.state import State, begun
from flows.continuous import SolveError

PATIENCE = 20  # updates in a row without a finite loss before a training counts as failed
CHUNK = 5000  # validation rows at once

Objective = Callable[[flows.Flow, Tensor], Tensor]  # of a flow and a batch (N, D), to be minimised


class TrainingError(RuntimeError):
    """A training that cannot go on; the message says why."""


def own_loss(flow: flows.Flow, x: Tensor) -> Tensor:
    """What a flow is trained by unless something else is asked for: its own loss.

    `Flow.loss` in its place would be the likelihood of every flow, whatever its class trains by.
    """
    return flow.loss(x)


def train(
    flow: flows.Flow,
    data: Dataset,
    case: Case,
    settings: Training,
    *,
    objective: Objective = own_loss,
    observe: Callable[[int], None] = lambda update: None,
    checkpoint: Path | None = None,
) -> History:
    """Train for ``case.updates`` updates at most; the weights that ``settings`` keep stay.

    Validation is by the exact trace and an adaptive solver, whatever the training's are. An update
    whose loss or gradient is not finite, or whose ODE cannot be solved, is skipped.
    ``observe`` is called before each update and after the last, outside the measured seconds. With
    a ``checkpoint`` the state is written there every `checkpoint.SECONDS`, and a training that
    finds one goes on from it. Raises TrainingError after `PATIENCE` skipped updates in a row, and
    ValueError where rows are to be fresh and the data set has no distribution to draw them from.
    """
    state = begun(flow, case, settings)
    dtype, written = getattr(torch, case.dtype), time.monotonic()
    rows, validation = (
        part.to(case.device, dtype) for part in (data.train, data.val[: settings.validation_rows])
    )
    if checkpoint is None or not checkpoints.read(checkpoint, state):
        counted = _counted(flow, rows[: case.batch], objective)
        state.history.step_flops, state.history.step_evaluations = counted
    history = state.history
    tolerance = settings.validation_tolerance
    solver = {"method": "dopri5", "rtol": tolerance, "atol": tolerance}
    exact, every = flow.using(trace="exact", solver=solver), settings.every(case.updates)
    source = settings.source(data)
    while True:
        late = 0 < settings.time_limit <= history.seconds and state.update < case.updates
        over = late or state.update == case.updates
        if over or state.update % every == 0:
            _validate(state, exact, validation, settings)
            if settings.patience and state.waiting > settings.patience:
                over, history.stopped = True, "patience"
        if late:
            history.stopped = "time"
        observe(state.update)
        if over:
            break
        x = _batch(state, case, source, rows)
        fault = _update(state, x, objective, settings, case)
        if state.in_a_row >= PATIENCE:
            raise TrainingError(
                f"{state.in_a_row} updates in a row failed, the last ({state.update - 1}): {fault}"
            )
        if checkpoint is not None and time.monotonic() - written >= checkpoints.SECONDS:
            checkpoints.write(checkpoint, state)
            written = time.monotonic()
    if settings.keep == "best":
        flow.load_state_dict(state.best)
    return history


def _batch(state: State, case: Case, source: Sampler | None, rows: Tensor) -> Tensor:
    """The next batch (N, D): new rows of the source, or without one of the training set."""
    if source is not None:
        return source(case.batch, state.generator).to(rows)
    if len(state.order) < case.batch:
        state.order = torch.randperm(len(rows), generator=state.generator)
    picks, state.order = state.order[: case.batch], state.order[case.batch :]
    return rows[picks.to(case.device)]


def _update(state: State, x: Tensor, objective: Objective, settings: Training, case: Case) -> str:
    """One update, timed and counted; why it was skipped ("" if it was not)."""
    history = state.history
    share = schedules.share(settings, state.update, case.updates, state.drops)
    for group in state.optimiser.param_groups:
        group["lr"] = settings.learning_rate * share
    with flows.count_nfe(state.flow) as nfe:
        synchronise(case.device)
        start = time.perf_counter()
        loss, fault = _step(state.flow, x, objective, state.optimiser, settings.clip)
        synchronise(case.device)
        history.seconds += time.perf_counter() - start
    forward, backward = history.evaluations
    history.evaluations = forward + nfe.forward, backward + nfe.backward
    history.losses.append(loss)
    history.skipped += bool(fault)
    state.in_a_row = state.in_a_row + 1 if fault else 0
    state.update += 1
    history.updates = state.update
    return fault


def _step(
    flow: flows.Flow, x: Tensor, objective: Objective, optimiser: torch.optim.Optimizer, clip: float
) -> tuple[float, str]:
    """The loss, and why the weights were left as they are ("" if they were not)."""
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


def _counted(
    flow: flows.Flow, x: Tensor, objective: Objective
) -> tuple[tuple[int, int], tuple[int, int]]:
    """FLOPs and evaluations, forward and backward, of an update that a copy of the flow makes."""
    device = [x.device] if x.device.type == "cuda" else []
    copied = copy.deepcopy(flow)
    with torch.random.fork_rng(device), flows.count_nfe(copied) as nfe:
        try:
            with Operations() as forward:
                loss = objective(copied, x)
            with Operations() as backward:
                loss.backward()
        except SolveError:
            return (0, 0), (0, 0)
    return (forward.flops, backward.flops), (nfe.forward, nfe.backward)


@torch.no_grad()
def _validate(state: State, exact: flows.Flow, validation: Tensor, settings: Training) -> None:
    """Note the likelihood of the validation rows; the best weights so far are kept."""
    history = state.history
    try:
        each = torch.cat([exact.log_prob(part) for part in torch.split(validation, CHUNK)])
        score, error = each.mean().item(), standard_error(each.double().cpu().numpy())
    except SolveError:
        score, error = -math.inf, math.nan
    score = score if math.isfinite(score) else -math.inf
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
    state.drops = schedules.drops(settings, state.drops, state.waiting)
