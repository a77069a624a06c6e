"""The one training loop: what a training is between two updates, and what it does at each turn."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flows.continuous import SolveError
from flows.flow import Flow

PATIENCE = 20  # updates in a row without a finite loss after which a training has failed

Objective = Callable[[Flow, Tensor], Tensor]  # of a flow and a batch (N, D), to be minimised


class TrainingError(RuntimeError):
    """A training that cannot go on; the message gives the reason."""


def own_loss(flow: Flow, x: Tensor) -> Tensor:
    """Return the flow's own loss of a batch, the default objective.

    `Flow.loss` itself would be the likelihood for every flow, whatever its class overrides.
    """
    return flow.loss(x)


def likelihood(flow: Flow, x: Tensor) -> Tensor:
    """Return the negative log-likelihood of a batch, whatever the flow's own loss is."""
    return Flow.loss(flow, x)


def cosine(update: int, updates: int) -> float:
    """Return the factor on a learning rate that falls to zero at the last of ``updates``."""
    return 0.5 * (1 + math.cos(math.pi * update / updates))


def next_picks(
    order: Tensor, count: int, batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return numbers (batch,) of the next of ``count`` rows, and the order that is left.

    Rows are shuffled anew where ``order`` has too few.
    """
    if len(order) < batch:
        order = torch.randperm(count, generator=generator)
    return order[:batch], order[batch:]


@dataclass
class State:
    """A flow, its optimiser, and the counters of the loop, between two updates."""

    flow: Flow
    optimiser: torch.optim.Optimizer
    generator: torch.Generator  # of the batches
    best: dict[str, Tensor]  # weights with the best validation
    order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))  # rows left
    update: int = 0
    score: float = -math.inf  # of the best weights
    waiting: int = 0  # validations since the best one
    in_a_row: int = 0  # updates skipped since the last that was not

    def picks(self, count: int, batch: int) -> Tensor:
        """Numbers (batch,) of the next of ``count`` rows; they are shuffled anew at the end."""
        picks, self.order = next_picks(self.order, count, batch, self.generator)
        return picks

    def step(self, x: Tensor, objective: Objective, rate: float, clip: float) -> tuple[float, str]:
        """Make an update; return the loss, and the reason if the weights were left unchanged."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss, fault = self._loss(x, objective, clip)
        if not fault:
            self.optimiser.step()
        self.in_a_row = self.in_a_row + 1 if fault else 0
        self.update += 1
        return (math.nan if fault else loss), fault

    def _loss(self, x: Tensor, objective: Objective, clip: float) -> tuple[float, str]:
        try:
            loss = objective(self.flow, x)
            loss.backward()
        except SolveError as error:
            return math.nan, str(error)
        norm = torch.nn.utils.clip_grad_norm_(self.flow.parameters(), clip or math.inf)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            return math.nan, f"loss {loss.item():.3g}, gradient norm {norm.item():.3g}"
        return loss.item(), ""

    def keep_best(self, score: float) -> None:
        """Keep the weights if their validation, nats, is the best so far."""
        if score > self.score:
            self.score, self.best = score, copy.deepcopy(self.flow.state_dict())
            self.waiting = 0
        else:
            self.waiting += 1


class Turns:
    """What a training does at each turn of the loop; what is not overridden does nothing."""

    patience = 0  # validations in a row without a better one before the end; 0: no end

    def begin(self) -> None:
        """Before anything else of a turn."""

    def end(self) -> str:
        """Why this turn is the last: "updates" that were all made, or "time"; else empty."""
        raise NotImplementedError

    def due(self) -> bool:
        """Whether the weights are to be validated."""
        raise NotImplementedError

    def validate(self) -> None:
        """Validate, and call `State.keep_best`."""
        raise NotImplementedError

    def observe(self) -> None:
        """After a validation that was due, before an update and after the last."""

    def update(self) -> str:
        """Make an update by `State.step`; the reason if it was skipped."""
        raise NotImplementedError

    def close(self) -> None:
        """After an update."""


def loop(state: State, turns: Turns) -> str:
    """Validate and update by turns; return why it ended: "updates", "time" or "patience".

    The last weights are validated too. Raises TrainingError after `PATIENCE` skipped updates in a
    row.
    """
    while True:
        turns.begin()
        end = turns.end()
        if end or turns.due():
            turns.validate()
            if end != "time" and turns.patience and state.waiting > turns.patience:
                end = "patience"
        turns.observe()
        if end:
            return end
        fault = turns.update()
        if state.in_a_row >= PATIENCE:
            raise TrainingError(
                f"{state.in_a_row} updates in a row failed, the last ({state.update - 1}): {fault}"
            )
        turns.close()
