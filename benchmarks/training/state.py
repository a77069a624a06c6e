"""The state of a training between two updates, with its history, which determines all to follow."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

import flows
from benchmarks.analysis.improvement import ERROR, FREEDOM, GAIN
from benchmarks.analysis.inference import Estimate
from benchmarks.core.case import Case
from benchmarks.datasets import Dataset
from benchmarks.measure.calls import prepare
from benchmarks.training.settings import Training
from flows import training

OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Count(NamedTuple):
    """FLOPs and evaluations, forward and backward, of updates from one number on."""

    update: int
    flops: tuple[int, int]
    evaluations: tuple[int, int]


@dataclass
class History:
    """Counts and curves of a training, of its updates alone: validations cost it nothing.

    Evaluations are pairs (forward, backward) of the vector field; zero without an ODE. Seconds are
    by the clock, CPU seconds those of this process; a training that resumes adds to both.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0  # with those of children
    busy_seconds: float = 0.0  # of a GPU
    losses: list[float] = field(default_factory=list)  # NaN of an update that was skipped
    skipped: int = 0
    alone: bool = False  # whether a clock decides its end, so that nothing runs beside it
    stopped: str = ""  # "patience" or "time" if the training ended before its last update
    update_evaluations: list[tuple[int, int]] = field(default_factory=list)  # of each update
    counts: list[Count] = field(default_factory=list)  # of one update of each objective
    validated: list[int] = field(default_factory=list)  # updates done at each validation
    validation_ll: list[float] = field(default_factory=list)
    validation_se: list[float] = field(default_factory=list)  # clustered if rows have groups
    validation_seconds: list[float] = field(default_factory=list)  # of training until then
    validation_cpu_seconds: list[float] = field(default_factory=list)
    observations: list[tuple[int | float, ...]] = field(default_factory=list)  # see `loop.train`
    gain: Estimate | None = None  # of `loop.continued`, or of the constant part of a course
    final: float | None = None  # score of the weights kept, on all validation rows of a course
    log_prob: list[float] = field(default_factory=list)  # of these rows, nats
    course: dict[str, Any] = field(default_factory=dict)  # its decisions
    reference: list[float] = field(default_factory=list)  # CPU seconds before and after a course

    @property
    def updates(self) -> int:
        return len(self.losses)

    def flops(self) -> np.ndarray:
        """FLOPs of training until each validation, (validations,); NaN if no update was solvable.

        Those of an update are as many as were counted for one of its objective or, with an ODE,
        times the ratio of evaluations.
        """
        done = np.array(self.update_evaluations, dtype=float).reshape(-1, 2)
        flops = np.full(len(done), math.nan)
        for count in self.counts:
            forward, backward = count.flops
            there, back = done[count.update :].T / np.maximum(1, count.evaluations)[:, None]
            if not count.evaluations[0]:
                there = back = np.ones_like(there)
            elif not count.evaluations[1]:
                back = there
            flops[count.update :] = forward * there + backward * back
        until = np.concatenate([[0.0], np.cumsum(flops)])
        result: np.ndarray = until[self.validated]
        return result

    def add_validation(self, score: float, error: float) -> None:
        """Add a validation: its mean log-density, nats, and the error of that over rows."""
        self.validated.append(self.updates)
        self.validation_ll.append(score)
        self.validation_se.append(error)
        self.validation_seconds.append(self.seconds)
        self.validation_cpu_seconds.append(self.cpu_seconds)

    def metrics(self) -> dict[str, float | list[float]]:
        metrics: dict[str, float | list[float]] = {
            "train_process_seconds": self.seconds,
            "train_cpu_seconds": self.cpu_seconds,
            "train_updates": self.updates,
            "train_flops": float(self.flops()[-1]),
            "skipped_updates": self.skipped,
            "val_ll": max(self.validation_ll) if self.final is None else self.final,
        }
        if self.busy_seconds:
            metrics["train_busy_seconds"] = self.busy_seconds
        if self.reference:
            metrics["reference_seconds"] = self.reference
        if self.alone:
            metrics["train_seconds"] = self.seconds
        if (gain := self.gain) is not None:
            metrics |= {GAIN: gain.value, ERROR: gain.error, FREEDOM: gain.freedom}
        if evaluations := sum(map(sum, self.update_evaluations)):
            metrics["train_nfe"] = evaluations / max(1, self.updates)
        return metrics

    def arrays(self) -> dict[str, np.ndarray]:
        """Curves of a record, by name."""
        curves = {
            "losses": np.array(self.losses, dtype=np.float32),
            "validated": np.array(self.validated),
            "validation_ll": np.array(self.validation_ll),
            "validation_se": np.array(self.validation_se),
            "validation_flops": self.flops(),
            "validation_cpu_seconds": np.array(self.validation_cpu_seconds),
        }
        if self.log_prob:
            curves["validation_log_prob"] = np.array(self.log_prob, dtype=np.float32)
        if self.alone:
            curves["validation_seconds"] = np.array(self.validation_seconds)
        return curves


@dataclass
class State(training.State):
    """The state of the loop with its history."""

    SCALARS: ClassVar[tuple[str, ...]] = ("update", "score", "waiting", "drops", "in_a_row")

    history: History = field(default_factory=History)
    drops: float = 0  # of the learning rate, each to a tenth
    tail: list[tuple[float, Tensor]] = field(default_factory=list)  # see `loop`

    @property
    def streams(self) -> dict[str, torch.Generator]:
        """Every random stream that a training draws from, torch's global one among them."""
        streams = {"global": torch.default_generator, "batches": self.generator}
        for name, module in self.flow.named_modules():
            if isinstance(stream := getattr(module, "generator", None), torch.Generator):
                streams[f"module.{name}"] = stream
        if torch.cuda.is_available():
            for index, stream in enumerate(torch.cuda.default_generators):
                streams[f"cuda.{index}"] = stream
        return streams

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo at the end what updates within do to weights and random streams."""
        weights = copy.deepcopy(self.flow.state_dict())
        streams = [(stream, stream.get_state()) for stream in self.streams.values()]
        try:
            yield
        finally:
            self.flow.load_state_dict(weights)
            for stream, state in streams:
                stream.set_state(state)


def prepared(case: Case, data: Dataset) -> tuple[flows.Flow, Training]:
    """Build the flow of a case for its training on a data set, and the settings of that."""
    settings = Training.model_validate(case.settings["training"])
    rows = data.train.to(getattr(torch, case.dtype))
    return prepare(case, rows, settings.preprocessing, data.support), settings


def initial_state(flow: flows.Flow, case: Case, settings: Training) -> State:
    """Build the state before the first update, and seed torch's global stream for noise."""
    torch.manual_seed(case.seeds.noise)
    optimiser = OPTIMISERS[settings.optimizer](
        flow.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    batches = torch.Generator().manual_seed(case.seeds.batches)
    return State(flow, optimiser, batches, copy.deepcopy(flow.state_dict()))
