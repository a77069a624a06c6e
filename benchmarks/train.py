"""The one training loop, and how a case becomes a flow ready for it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from pydantic import BaseModel, PositiveFloat, PositiveInt
from torch import Tensor

import flows
from benchmarks.case import Case
from benchmarks.measure.clock import synchronise
from flows.continuous import SolveError
from flows.whitening import Whitening

INITIAL_ROWS = 1024  # rows that ActNorm is initialised with
PATIENCE = 20  # updates in a row without a finite loss before a training counts as failed


class Training(BaseModel, frozen=True, extra="forbid"):
    """How a flow is trained: Adam, gradient clipping, cosine decay, best validation weights."""

    learning_rate: PositiveFloat = 1e-3
    clip: PositiveFloat = 5.0  # largest norm of the gradient
    decay: bool = True  # cosine to zero over the updates
    whiten: bool = False  # a fixed affine whitening of the training set comes first
    validations: PositiveInt = 10  # times that the validation set is looked at
    validation_rows: PositiveInt = 2000


class TrainingError(RuntimeError):
    """A training that cannot go on; the message says why."""


@dataclass
class History:
    """What a training went through; seconds are without the validations."""

    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    skipped: int = 0
    validated: list[int] = field(default_factory=list)  # updates done at each validation
    validation_ll: list[float] = field(default_factory=list)
    validation_seconds: list[float] = field(default_factory=list)  # training time until then


def prepare(case: Case, train: Tensor, settings: Training) -> flows.Flow:
    """The flow of a case: built, whitened, initialised, on the case's device, from its seeds."""
    torch.manual_seed(case.seeds.init)
    flow = flows.build(case.flow, case.dim, **case.options)
    flow.to(getattr(torch, case.dtype))
    if settings.whiten:
        flow.prepend(Whitening.fit(train))
    picks = torch.randperm(len(train), generator=_generator(case.seeds.batches))[:INITIAL_ROWS]
    flow.to(case.device).initialize(train[picks].to(case.device))
    for module in flow.modules():
        if isinstance(noise := getattr(module, "generator", None), torch.Generator):
            noise.manual_seed(case.seeds.noise)
    return flow


def train(
    flow: flows.Flow,
    data: Tensor,
    validation: Tensor,
    case: Case,
    settings: Training,
    observe: Callable[[int], None] = lambda update: None,
) -> History:
    """Train for ``case.updates`` updates on rows of ``data``; the best validated weights stay.

    An update whose loss or gradient is not finite, or whose ODE cannot be solved, is skipped.
    ``observe`` is called before each update and after the last, outside the measured seconds.
    Raises TrainingError after `PATIENCE` skipped updates in a row.
    """
    history, best, in_a_row = History(), (-math.inf, copy.deepcopy(flow.state_dict())), 0
    optimiser = torch.optim.Adam(flow.parameters(), lr=settings.learning_rate)
    generator = _generator(case.seeds.batches)
    data, validation = data.to(case.device), validation[: settings.validation_rows].to(case.device)
    every = max(1, case.updates // settings.validations)
    exact = flow.using(trace="exact")
    order = torch.empty(0, dtype=torch.long)
    for update in range(case.updates + 1):
        if update % every == 0 or update == case.updates:
            score = _validate(exact, validation)
            history.validated.append(update)
            history.validation_ll.append(score)
            history.validation_seconds.append(history.seconds)
            if score > best[0]:
                best = (score, copy.deepcopy(flow.state_dict()))
        observe(update)
        if update == case.updates:
            break
        if len(order) < case.batch:
            order = torch.randperm(len(data), generator=generator)
        rows, order = order[: case.batch], order[case.batch :]
        synchronise(case.device)
        start = time.perf_counter()
        for group in optimiser.param_groups:
            share = update / case.updates
            group["lr"] = settings.learning_rate * (
                0.5 * (1 + math.cos(math.pi * share)) if settings.decay else 1
            )
        loss, fault = _step(flow, data[rows.to(case.device)], optimiser, settings.clip)
        synchronise(case.device)
        history.seconds += time.perf_counter() - start
        history.losses.append(loss)
        in_a_row = in_a_row + 1 if fault else 0
        history.skipped += bool(fault)
        if in_a_row >= PATIENCE:
            raise TrainingError(f"{in_a_row} updates in a row failed, the last ({update}): {fault}")
    flow.load_state_dict(best[1])
    return history


def _step(
    flow: flows.Flow, x: Tensor, optimiser: torch.optim.Optimizer, clip: float
) -> tuple[float, str]:
    """One update; the loss, and why it was skipped ("" if it was not)."""
    optimiser.zero_grad()
    try:
        loss = flow.loss(x)
        loss.backward()
    except SolveError as error:
        return math.nan, str(error)
    norm = torch.nn.utils.clip_grad_norm_(flow.parameters(), clip)
    if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
        return math.nan, f"loss {loss.item():.3g}, gradient norm {norm.item():.3g}"
    optimiser.step()
    return loss.item(), ""


@torch.no_grad()
def _validate(flow: flows.Flow, validation: Tensor) -> float:
    try:
        score = flow.log_prob(validation).mean().item()
    except SolveError:
        return -math.inf
    return score if math.isfinite(score) else -math.inf


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
