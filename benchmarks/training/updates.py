"""Single updates of a training: what they minimise, their batches, their seconds and counts."""

from __future__ import annotations

import copy
import time

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
from flows.training import Objective, likelihood, own_loss


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
    return rows[state.picks(len(rows), case.batch).to(case.device)]


def update(state: State, x: Tensor, objective: Objective, settings: Training, case: Case) -> str:
    """Make one timed and counted update; return the reason if it was skipped, else ""."""
    history = state.history
    share = schedules.share(settings, state.update, case.updates, state.drops)
    with flows.count_nfe(state.flow) as nfe:
        synchronise(case.device)
        start = time.perf_counter()
        loss, fault = state.step(x, objective, settings.learning_rate * share, settings.clip)
        synchronise(case.device)
        seconds = time.perf_counter() - start
    history.add_update(loss, nfe.forward, nfe.backward, seconds)
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
    count = (forward.flops, backward.flops), (nfe.forward, nfe.backward)
    first = state.update if state.history.counts else 0
    state.history.counts.append(Count(first, *count))
