"""Single updates of a training: what they minimise, their batches, their seconds and counts."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

import flows
from benchmarks.core.case import Case
from benchmarks.measure.clock import synchronise
from benchmarks.measure.operations import Operations
from benchmarks.training import schedules
from benchmarks.training.history import Count
from benchmarks.training.settings import Sampler, Training
from benchmarks.training.state import State
from flows.continuous import SolveError

PATIENCE = 20  # updates in a row without a finite loss after which a training has failed

Objective = Callable[[flows.Flow, Tensor], Tensor]  # of a flow and a batch (N, D), to be minimised


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
    count = (forward.flops, backward.flops), (nfe.forward, nfe.backward)
    first = state.update if state.history.counts else 0
    state.history.counts.append(Count(first, *count))
