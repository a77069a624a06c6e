"""The state of a training between two updates, which determines all that follows."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

import flows
from benchmarks.core.case import Case
from benchmarks.datasets import Dataset
from benchmarks.measure.calls import prepare
from benchmarks.training.history import History
from benchmarks.training.settings import Training
from flows import training

SNAPSHOTS = 4
OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass
class State(training.State):
    """The state of the loop with its history, and weights along the way."""

    SCALARS: ClassVar[tuple[str, ...]] = ("update", "score", "waiting", "drops", "in_a_row")

    history: History = field(default_factory=History)
    drops: float = 0  # of the learning rate, each to a tenth
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # weights by updates done

    @property
    def streams(self) -> dict[str, torch.Generator | None]:
        """Every random stream that a training draws from; None stands for torch's global one."""
        streams: dict[str, torch.Generator | None] = {"global": None, "batches": self.generator}
        for name, module in self.flow.named_modules():
            if isinstance(own := getattr(module, "generator", None), torch.Generator):
                streams[f"module.{name}"] = own
        if torch.cuda.is_available():
            for index, stream in enumerate(torch.cuda.default_generators):
                streams[f"cuda.{index}"] = stream
        return streams

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo at the end what updates within do to weights and random streams."""
        weights, streams = copy.deepcopy(self.flow.state_dict()), self.streams
        with torch.random.fork_rng([]):
            saved = {name: own.get_state() for name, own in streams.items() if own is not None}
            try:
                yield
            finally:
                self.flow.load_state_dict(weights)
                for name, state in saved.items():
                    streams[name].set_state(state)  # type: ignore[union-attr]  # not the global one

    def add_snapshot(self) -> None:
        """Keep the weights as they are now: the first, the last, and about `SNAPSHOTS` in all."""
        if len(self.snapshots) > SNAPSHOTS:
            for update in sorted(self.snapshots)[1::2]:
                del self.snapshots[update]
        self.snapshots[self.update] = copy.deepcopy(self.flow.state_dict())


def prepared(case: Case, data: Dataset) -> tuple[flows.Flow, Training]:
    """Build the flow of a case for its training on a data set, and the settings of that."""
    settings = Training.model_validate(case.settings["training"])
    rows = data.train.to(getattr(torch, case.dtype))
    return prepare(case, rows, settings.preprocessing), settings


def initial_state(flow: flows.Flow, case: Case, settings: Training) -> State:
    """Build the state before the first update, and seed torch's global stream for noise."""
    torch.manual_seed(case.seeds.noise)
    optimiser = OPTIMISERS[settings.optimizer](
        flow.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    return State(
        flow,
        optimiser,
        torch.Generator().manual_seed(case.seeds.batches),
        copy.deepcopy(flow.state_dict()),
    )
