"""The one training loop: what a training is between two updates, and what it does at each turn."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from flows.continuous import SolveError
from flows.flow import Flow

PATIENCE = 20  # updates in a row without a finite loss after which a training has failed

STEPS = 32  # in which the rate of a course falls to zero
VALIDATIONS = 20, 200  # of a course: at least, and at most
VALIDATING = 0.1  # share of the seconds of a course that validations take, at most
STALE = 10  # validations without a better one after which a course may go back
AVERAGED = 8.0  # updates done over updates that the mean of the weights weighs most
DECISIONS = "updates", "validated", "falls", "returned", "rows"  # that a course is led by
FEWEST = 256  # validation rows of a course, where all take too long

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
class Course:
    """When a training validates, lowers its rate and ends, by what it has ``spent`` of an amount.

    The amount is one of CPU seconds or, with ``count``, of updates. The rate is constant, then
    falls to zero over the last share ``decay``, as 1 - √ of the part of it that is over, in `STEPS`
    steps. There are twenty validations and, as far as a tenth of the seconds allows, up to one in
    each epoch of ``epoch`` updates. A training whose best validation is long past goes back to its
    best weights and lets its rate fall from there. The updates at which all this happened are kept:
    a course that is ``led`` by another repeats it. Hägele et al., Scaling Laws and Compute-Optimal
    Training Beyond Fixed Training Durations, 2024, arXiv:2405.18392.
    """

    amount: float
    decay: float
    epoch: int
    count: bool = False
    spent: float = 0.0
    validating: float = 0.0  # seconds of validations
    cost: float = 0.0  # seconds of the latest validation
    rows: int = 0  # validation rows, of those that there are
    at: float = 0.0  # spent at the latest validation
    best: float = 0.0  # spent at the best validation
    validated: list[int] = field(default_factory=list)  # updates done
    falls: list[int] = field(default_factory=list)  # updates done at each step of the fall
    returned: list[int] = field(default_factory=list)  # updates done when it went back
    updates: int = 0  # updates done at the end
    led: Self | None = None

    @classmethod
    def led_by(cls, decisions: Mapping[str, Any]) -> Self:
        """The course that repeats the `decisions` of another; ValueError without all of them."""
        if missing := [name for name in DECISIONS if name not in decisions]:
            raise ValueError(f"a course is led by {', '.join(DECISIONS)}: {missing[0]} is missing")
        leader = cls(0, 0, 1, **{name: decisions[name] for name in DECISIONS})
        return cls(0, 0, 1, led=leader)

    @property
    def plateau(self) -> float:
        """What is spent before the rate falls."""
        return (1 - self.decay) * self.amount

    @property
    def factor(self) -> float:
        """The factor on the learning rate."""
        return 1 - math.sqrt(len(self.falls) / STEPS)

    def begin(self, update: int) -> None:
        """Lower the rate where that is due, after so many updates."""
        if self.led:
            self.falls = [fall for fall in self.led.falls if fall <= update]
            return
        width = (self.amount - self.plateau) / STEPS
        while self.decay and len(self.falls) < STEPS:
            if self.spent < self.plateau + len(self.falls) * width:
                return
            self.falls.append(update)

    def ended(self, update: int) -> bool:
        """Whether all is spent, after so many updates."""
        over = update >= self.led.updates if self.led else self.spent >= self.amount
        self.updates = update if over else self.updates
        return over

    def due(self, update: int) -> bool:
        """Whether weights are to be validated, after so many updates."""
        if self.led:
            return update in self.led.validated
        if not self.validated:
            return True
        least, most = VALIDATIONS
        since = self.spent - self.at
        if since < self.amount / most:
            return False
        if not self.count and self.validating + self.cost > VALIDATING * self.spent:
            return False
        return since >= self.amount / least or update - self.validated[-1] >= self.epoch

    def validate(self, update: int, seconds: float, rows: int) -> None:
        """Note a validation of so many of ``rows``, and at the first decide how many are used."""
        self.cost, self.at = seconds, self.spent
        self.validating += seconds
        if not self.validated:
            self.rows = self.led.rows if self.led else rows
            bound = max(self.amount, VALIDATIONS[0]) * VALIDATING / (2 * VALIDATIONS[0])
            while not self.count and not self.led and self.cost > bound and self.rows > FEWEST:
                self.rows, self.cost = self.rows // 2, self.cost / 2
        self.validated.append(update)

    def goes_back(self, update: int, waiting: int) -> bool:
        """Whether to go back to the best weights, after a validation; the rate falls from there.

        ``waiting`` are the validations since the best. What follows takes as long as the fall of a
        training that ends where that was best.
        """
        if not waiting:
            self.best = self.spent
        stale = not self.falls and waiting >= STALE and self.spent >= 2 * self.best
        back = update in self.led.returned if self.led else stale
        if back:
            self.returned.append(update)
        if back and not self.led:
            length = self.best * self.decay / (1 - self.decay)
            self.amount = min(self.amount, self.spent + length)
            self.decay = 1 - self.spent / self.amount
        return back

    def plain(self) -> dict[str, Any]:
        """The values as JSON, without those of the course that leads."""
        return {name: value for name, value in vars(self).items() if name != "led"}

    def decisions(self) -> dict[str, Any]:
        """What another course has to be led by, as JSON."""
        return {name: getattr(self, name) for name in DECISIONS}


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
    mean: Flow | None = None  # a copy whose weights are the mean of the last updates
    course: Course | None = None

    @property
    def validated(self) -> Flow:
        """The flow that is validated, and whose weights are kept: the mean if there is one."""
        return self.flow if self.mean is None else self.mean

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
            self._mix()
        self.in_a_row = self.in_a_row + 1 if fault else 0
        self.update += 1
        return (math.nan if fault else loss), fault

    @torch.no_grad()
    def _mix(self) -> None:
        """Move the mean, which weighs about the last t / `AVERAGED` of t updates most.

        Shamir and Zhang, Stochastic Gradient Descent for Non-smooth Optimization, 2013,
        arXiv:1212.1824.
        """
        if self.mean is not None:
            share = (AVERAGED + 1) / (self.update + AVERAGED + 1)
            pairs = zip(self.mean.parameters(), self.flow.parameters(), strict=True)
            for mean, weight in pairs:
                if mean.is_floating_point():  # others are no weights
                    mean.lerp_(weight, share)

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

    def follow(self, course: Course) -> None:
        """Follow a course, which validates a mean of the weights."""
        self.course, self.mean = course, copy.deepcopy(self.flow)

    def note(self, score: float, seconds: float = 0.0, rows: int = 0) -> None:
        """Note a validation of the weights, nats, and what it took on so many rows.

        Keep the weights if it is the best so far; go back to the best ones where the course does.
        """
        self.waiting = 0 if score > self.score else self.waiting + 1
        if not self.waiting:
            self.score, self.best = score, copy.deepcopy(self.validated.state_dict())
        if course := self.course:
            course.validate(self.update, seconds, rows)
            if course.goes_back(self.update, self.waiting):
                self.flow.load_state_dict(self.best)
                self.validated.load_state_dict(self.best)

    def conclude(self, log_prob: Callable[[], Tensor | None]) -> tuple[float, Tensor | None]:
        """Make the better of the best and the last weights by all validation rows the best.

        ``log_prob`` gives the log-densities (N,) of these rows, nats, by the flow that is
        validated, or None. Return their mean, and them.
        """
        last, chosen = copy.deepcopy(self.validated.state_dict()), self.best
        result: tuple[float, Tensor | None] = (-math.inf, None)
        for weights in (last, self.best):
            self.validated.load_state_dict(weights)
            values = log_prob()
            score = -math.inf if values is None else values.mean().item()
            if score >= result[0]:
                chosen, result = weights, (score, values)
        self.best = chosen
        return result


@torch.no_grad()
def log_densities(flow: Flow, parts: Iterable[tuple[Tensor, Tensor | None]]) -> Tensor | None:
    """Log-densities of parts (rows, context), nats, (N,) in all; None without a finite mean."""
    try:
        log_prob = torch.cat([flow.log_prob(x, context) for x, context in parts])
    except SolveError:
        return None
    return log_prob if math.isfinite(log_prob.mean().item()) else None


class Turns:
    """What a training does at each turn of the loop: by default what the state's course says."""

    state: State
    patience = 0  # validations in a row without a better one before the end; 0: no end

    def begin(self) -> None:
        """Before anything else of a turn."""
        if course := self.state.course:
            course.begin(self.state.update)

    def end(self) -> str:
        """Why this turn is the last: "updates" that were all made, or "time"; else empty."""
        course = self.state.course
        return "updates" if course and course.ended(self.state.update) else ""

    def due(self) -> bool:
        """Whether the weights are to be validated."""
        return bool(self.state.course and self.state.course.due(self.state.update))

    def validate(self) -> None:
        """Validate, and call `State.note`."""
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
