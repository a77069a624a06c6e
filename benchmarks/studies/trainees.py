"""Cases of studies that train flows.

Training options are resolved in this order: flow over study over protocol over defaults.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import JsonValue, PositiveInt, ValidationError
from pydantic import model_validator as validator

import flows
from benchmarks import datasets, protocols
from benchmarks.core.case import Case, Settings
from benchmarks.core.study import Common, Study
from benchmarks.studies.contender import Contender, K, expanded
from benchmarks.training.baselines import BaselineEntry
from benchmarks.training.settings import Training, TrainingPart


class TrainingStudy(Study):
    """A study of trainings, which may run beside others."""

    uses = ("benchmarks.measure", "benchmarks.training", "benchmarks.evaluation")

    def alone(self, case: Case) -> bool:
        """Whether the clock ends the training."""
        return bool(case.settings.get("training", {}).get("time_limit"))


class Trainee(Contender, frozen=True):
    """A contender with training options of its own."""

    shared: ClassVar[tuple[str, ...]] = ("updates", "training", "batch", "protocol")
    updates: PositiveInt | None = None
    """Updates of this flow; those of the study if left out."""
    training: TrainingPart = TrainingPart()
    """Settings of this flow's training; only those that are given override the study's."""
    protocol: str | None = None
    """Protocol of this flow, in place of the study's."""


class Trainees(Settings, frozen=True):
    """Options of a study that trains flows on data sets."""

    flows: tuple[Trainee, ...]
    """Flows that are trained."""
    datasets: tuple[str, ...]
    """Data sets, by their names or files."""
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""
    parameters: PositiveInt | None = None
    """Number of trainable parameters that decides the width of flows without one of their own."""
    batch: PositiveInt = 256
    """Rows of a batch."""
    updates: PositiveInt = 1000
    """Updates of each training."""
    training: Training = Training()
    """Settings of the trainings."""
    protocol: str | None = None
    """Protocol, by its name, whose rules give what the suite leaves out."""

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
        settings: Mapping[str, Any],
        fixed: Mapping[str, JsonValue] = {},
        **fields: Any,
    ) -> Iterator[Case]:
        """Yield a case for each flow and seed on a data set.

        ``fixed`` are settings of the training that override all others. Raises ValueError if a
        protocol has no rule for a flow on the data set, if training options contradict each other,
        or if rows are to be fresh and the data set has no distribution.
        """
        for contender in entered(self.flows, dataset):
            trainee, training = self.resolve(contender, dataset, fixed)
            if training.fresh:
                training.source(datasets.load(dataset))  # raises if there is none
            for seed in common.seeds:
                yield trainee.case(
                    common,
                    datasets.dim(dataset),
                    sized(self.sizes, dataset),
                    seed,
                    dataset=dataset,
                    batch=self.batch,
                    updates=trainee.updates or self.updates,
                    settings={**settings, "training": training.model_dump()},
                    **fields,
                )

    def resolve(
        self, trainee: Trainee, dataset: str, fixed: Mapping[str, JsonValue] = {}
    ) -> tuple[Trainee, Training]:
        """Resolve a flow's options, batch, updates and training on a data set; see `repeated`."""
        member = flows.members[trainee.flow]
        decided = "hidden" in trainee.options or trainee.rules
        if self.parameters and not decided and "hidden" in member.uses:
            trainee = trainee.model_copy(update={"parameters": self.parameters})
        training, changes = self.training.model_dump(), {}
        if name := trainee.protocol or self.protocol:
            rule = protocols.read(name).of(trainee.flow, dataset)
            training |= {**rule.training, **self.training.model_dump(exclude_unset=True)}
            options = {**rule.options, **member.applicable(self.sizes), **trainee.options}
            if trainee.rules and "hidden" not in trainee.options:
                options.pop("hidden", None)
            changes["options"] = options
            for size in ("batch", "updates"):
                nearer = self if size in self.model_fields_set else rule
                changes[size] = getattr(trainee, size) or getattr(nearer, size)
        training |= {**trainee.training.model_dump(exclude_unset=True), **fixed}
        try:
            return trainee.model_copy(update=changes), Training.model_validate(training)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"training of flow {trainee.flow!r}: {reason}") from error


def entered(contenders: Sequence[K], dataset: str) -> list[K]:
    """Expand flows for a data set: those that take a context, of a conditional one.

    A flow that is named and takes none is left out with a line of warning.
    """
    every = expanded(contenders)
    if not datasets.context_dim(dataset):
        return every
    unfit = {one.flow for one in every if "context_dim" not in flows.members[one.flow].uses}
    for name in sorted(unfit.intersection(contender.flow for contender in contenders)):
        what = f"flow {name!r} is left out on {dataset}: it takes no context"
        warnings.warn(what, stacklevel=1)
    return [one for one in every if one.flow not in unfit]


def sized(sizes: Mapping[str, int], dataset: str) -> dict[str, int]:
    """Sizes of flows on a data set, with the width of its context if it is conditional."""
    width = datasets.context_dim(dataset)
    return {**sizes, "context_dim": width} if width else dict(sizes)


def fitted(
    baselines: Sequence[BaselineEntry],
    common: Common,
    dataset: str,
    settings: Mapping[str, Any],
    **fields: Any,
) -> Iterator[Case]:
    """Yield a case for each baseline and seed on a data set."""
    for entry in baselines:
        fields |= {"flow": entry.flow, "dim": datasets.dim(dataset), "dataset": dataset}
        fields |= {"batch": 1, "settings": {**settings, **entry.settings}}
        yield from (common.case(seed, **fields) for seed in common.seeds)
