"""Flows that a study trains: what each says itself, what its study says, what its protocol says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, Field, JsonValue, PositiveInt
from pydantic import model_validator as validator

import flows
from benchmarks import datasets, protocols
from benchmarks.core.case import Case
from benchmarks.core.study import Common, Contender, expanded
from benchmarks.training.baselines import BASELINES
from benchmarks.training.settings import Training


class Trainee(Contender, frozen=True):
    """A contender that is trained, and how its training differs from the study's."""

    updates: PositiveInt | None = None
    training: dict[str, JsonValue] = Field(default_factory=dict)
    protocol: str | None = None  # of `benchmarks.protocols`, before the study's


class Trainees(BaseModel, frozen=True, extra="forbid"):
    """What a study that trains flows on data sets says of all of them.

    What a flow says itself goes before what the study says, and that before the protocol.
    """

    flows: tuple[Trainee, ...]
    datasets: tuple[str, ...]
    sizes: dict[str, PositiveInt] = {}
    parameters: PositiveInt | None = None  # decides the width of every flow that says none itself
    batch: PositiveInt = 256
    updates: PositiveInt = 1000
    training: Training = Training()
    protocol: str | None = None

    @validator(mode="after")
    def _one_width(self) -> Self:
        if self.parameters and "hidden" in self.sizes:
            raise ValueError(
                f"sizes.hidden = {self.sizes['hidden']} and parameters = {self.parameters} both "
                "decide the width: give one of them"
            )
        return self

    def repeated(
        self,
        common: Common,
        dataset: str,
        dim: int,
        settings: Mapping[str, Any],
        fixed: Mapping[str, JsonValue] = {},
        roles: Mapping[str, JsonValue] = {},
        **fields: Any,
    ) -> Iterator[Case]:
        """A case for each flow and seed on a data set.

        ``settings`` and ``fields`` are the study's of each case, ``fixed`` settings of the training
        that nothing changes. ValueError where a protocol says nothing of a flow on that set, and
        where fresh rows are asked of one that is not drawn.
        """
        for each in expanded(self.flows):
            trainee = self.of(each, dataset)
            training = {**self.training.model_dump(), **trainee.training, **fixed}
            whole = Training.model_validate(training)
            if whole.fresh:
                whole.source(datasets.load(dataset))  # or it could not be trained
            complete = whole.model_dump()
            for seed in common.seeds:
                yield common.case(
                    seed,
                    flow=trainee.flow,
                    dim=dim,
                    options=trainee.complete(self.sizes, dim),
                    dataset=dataset,
                    batch=trainee.batch or self.batch,
                    updates=trainee.updates or self.updates,
                    settings={**settings, "training": complete},
                    roles={**roles, **trainee.rules},
                    **fields,
                )

    def of(self, trainee: Trainee, dataset: str) -> Trainee:
        """The flow with all that is said of it on a data set; ValueError as above."""
        decided = "hidden" in trainee.options or trainee.rules
        if self.parameters and not decided and "hidden" in flows.members[trainee.flow].uses:
            trainee = trainee.model_copy(update={"parameters": self.parameters})
        if (name := trainee.protocol or self.protocol) is None:
            return trainee
        rule, said = protocols.read(name).of(trainee.flow, dataset), self.model_fields_set
        sizes = flows.members[trainee.flow].applicable(self.sizes)
        options = {**rule.options, **sizes, **trainee.options}
        if trainee.rules and "hidden" not in trainee.options:
            options.pop("hidden", None)
        own = {key: getattr(self, key) for key in ("batch", "updates") if key in said}
        training = {**rule.training, **self.training.model_dump(exclude_unset=True)}
        changes = {
            "options": options,
            "batch": trainee.batch or own.get("batch") or rule.batch,
            "updates": trainee.updates or own.get("updates") or rule.updates,
            "training": {**training, **trainee.training},
        }
        return trainee.model_copy(update=changes)


def fitted(
    baselines: Sequence[str],
    common: Common,
    dataset: str,
    dim: int,
    settings: Mapping[str, Any],
    **fields: Any,
) -> Iterator[Case]:
    """A case for each baseline on a data set; ValueError for one that there is not."""
    for name in baselines:
        if name not in BASELINES:
            raise ValueError(f"unknown baseline {name!r}; choose from: {', '.join(BASELINES)}")
        yield common.case(
            flow=name, dim=dim, dataset=dataset, batch=1, settings=dict(settings), **fields
        )
