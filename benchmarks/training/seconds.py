"""Seconds of a training: updates timed alone at some of its weights, summed over all of them.

A training may share the machine, so its own clock says little. What it did is known exactly: the
number of its updates and, with an ODE, the evaluations of each. Afterwards updates are timed with
nothing beside them, at weights that the training went through. Their seconds are a constant and a
cost of each evaluation, forward and backward, which gives those of every update of the training.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

import flows
from benchmarks.core.case import Case
from benchmarks.datasets import Dataset
from benchmarks.measure.operations import counting
from benchmarks.training.history import History
from benchmarks.training.settings import Training
from benchmarks.training.state import initial_state, prepared
from benchmarks.training.updates import next_batch, objective_at, update
from flows.training import Objective, likelihood, own_loss

FLOW, SNAPSHOT = "flow.", "snapshot."  # how names of tensors begin among those that are kept
ROW = 0.02  # seconds of updates in a row
LEAST = 3  # updates that a rate is measured by
ENDLESS = 1_000_000  # updates of a training whose rate is measured
EVALUATIONS, VALIDATED = "update_evaluations", "validated"

Sample = tuple[int, int, float]  # evaluations forward and backward of an update, and its seconds


def kept(flow: flows.Flow, history: History) -> dict[str, Tensor] | None:
    """Return what is needed to time a training afterwards: weights, and evaluations of updates.

    Of one that had the machine to itself it is the weights at its end alone; None where nothing
    will be timed.
    """
    if counting():
        return None
    tensors = {FLOW + name: value for name, value in flow.state_dict().items()}
    if history.alone:
        return tensors
    for number, weights in history.snapshots.items():
        tensors |= {f"{SNAPSHOT}{number}.{name}": value for name, value in weights.items()}
    pairs = torch.tensor(history.update_evaluations, dtype=torch.int32).reshape(-1, 2)
    return tensors | {EVALUATIONS: pairs, VALIDATED: torch.tensor(history.validated)}


def trained(case: Case, data: Dataset, tensors: Mapping[str, Tensor]) -> flows.Flow:
    """Return the flow of a case with its weights at the end of a training that is `kept`."""
    flow, _ = prepared(case, data)
    flow.load_state_dict(_under(FLOW, tensors))
    return flow


class Updates:
    """Updates of a training at some of its weights, which stay as they are.

    They are those of the training but for a learning rate of zero. Each call makes as many in a row
    as take `ROW` seconds, and ``calls`` gets a list of their evaluations and seconds: without the
    first, which finds the caches filled by other work, unless it is the only one.
    """

    def __init__(
        self, case: Case, data: Dataset, weights: Mapping[str, Tensor], objective: Objective
    ) -> None:
        flow, settings = prepared(case, data)
        flow.load_state_dict(weights)
        self.case, self.objective = case, objective
        self.settings = settings.model_copy(update={"learning_rate": 0.0})
        self.state, self.source = initial_state(flow, case, settings), settings.source(data)
        self.rows = data.train.to(case.device, getattr(torch, case.dtype))
        self.calls: list[list[Sample]] = []

    def __call__(self) -> None:
        history = self.state.history
        start = history.seconds
        row: list[Sample] = []
        while not row or history.seconds - start < ROW:
            before = history.seconds
            x = next_batch(self.state, self.case, self.source, self.rows)
            update(self.state, x, self.objective, self.settings, self.case)
            row.append((*history.update_evaluations[-1], history.seconds - before))
        self.calls.append(row[1:] or row)


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
            x = next_batch(state, case, source, rows)
            update(state, x, objective, settings, endless)
            until.append(state.history.seconds)
        late = np.diff(until)[(len(until) - 1) // 2 :]
        rates.append(1.0 if counting() else float(1 / np.median(late)))
    return rates


def updates(
    case: Case, data: Dataset, tensors: Mapping[str, Tensor], objective: Objective = own_loss
) -> dict[int, Updates]:
    """Return updates at each snapshot of a training that is `kept`, by updates done until then."""
    settings = Training.model_validate(case.settings["training"])
    numbers = {int(name.split(".")[1]) for name in tensors if name.startswith(SNAPSHOT)}
    goals = {n: objective_at(n, case, settings, objective) for n in sorted(numbers)}
    return {
        number: Updates(case, data, _under(f"{SNAPSHOT}{number}.", tensors), goal)
        for number, goal in goals.items()
    }


def total(
    tensors: Mapping[str, Tensor], samples: Sequence[Sample]
) -> tuple[float, np.ndarray, list[list[Any]]]:
    """Return seconds of a training that is `kept`, from those of some of its updates.

    They are the sum, the seconds until each validation (V,), and the medians that they come from as
    rows (forward, backward, seconds, count), of updates with equal evaluations.
    """
    groups: dict[tuple[int, int], list[float]] = {}
    for forward, backward, seconds in samples:
        groups.setdefault((forward, backward), []).append(seconds)
    medians = [[f, b, float(np.median(s)), len(s)] for (f, b), s in sorted(groups.items())]
    costs = seconds_of(medians, tensors[EVALUATIONS].numpy())
    until = np.concatenate([[0.0], np.cumsum(costs)])
    return float(until[-1]), until[tensors[VALIDATED].numpy()], medians


def seconds_of(medians: Sequence[Sequence[float]], evaluations: np.ndarray) -> np.ndarray:
    """Return seconds (U,) of updates with these evaluations (U, 2), from medians of others.

    Costs of an update and of an evaluation forward and backward are fitted to rows (forward,
    backward, seconds, count) by least squares of relative errors; none is negative.
    """
    forward, backward, seconds, count = np.array(medians, dtype=float).T
    weights = np.sqrt(count) / seconds
    design = np.stack([np.ones_like(forward), forward, backward], 1)
    costs, _ = nnls(design * weights[:, None], seconds * weights)
    seconds_each: np.ndarray = np.column_stack([np.ones(len(evaluations)), evaluations]) @ costs
    return seconds_each


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
