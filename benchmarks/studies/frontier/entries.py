"""Options of the study of the frontier, and the cases that they ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic import model_validator as validator

from benchmarks import datasets
from benchmarks.core.case import Case, Settings
from benchmarks.core.study import Common
from benchmarks.evaluation.scoring import Scoring
from benchmarks.studies.contender import Contender, expanded
from benchmarks.studies.trainees import sized
from benchmarks.training.baselines import EVERY, BaselineEntry
from benchmarks.training.search import Configuration, Rung, Space, configurations
from benchmarks.training.settings import Training, TrainingPart

NAME = "frontier"  # of the study


class Entrant(Contender, frozen=True):
    """A family, what its search may choose from, and its name in tables where that is another."""

    label: str = ""
    """Name of the family in tables; that of the flow if left out."""
    space: Space = Space()
    """Space from which the search chooses configurations."""
    training: TrainingPart = TrainingPart()
    """Settings of the trainings of this family; only those that are given override the study's."""


class Extension(Settings, frozen=True):
    """A longer budget for some families, and for those that are best by validation until then."""

    seconds: PositiveFloat
    """Seconds of updates of the longer budget."""
    seeds: PositiveInt
    """Number of the suite's seeds, the smallest, that are trained so long."""
    labels: tuple[str, ...] = ()
    """Names of families that get the longer budget in any case."""
    best: NonNegativeInt = 0
    """Number of other families that get it, the best by validation at the last rung."""


class FrontierOptions(Settings, frozen=True):
    """The frontier study's part of a suite."""

    flows: tuple[Entrant, ...]
    """Families that are compared, each with the space of its search."""
    datasets: tuple[str, ...]
    """Data sets, by their names or files."""
    if_present: tuple[str, ...] = ()
    """Further data sets, which are left out where their files are absent."""
    baselines: tuple[BaselineEntry, ...] = EVERY
    """Baselines that are fitted beside the flows."""
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""
    batch: PositiveInt = 256
    """Rows of a batch."""
    training: Training = Training(schedule="wsd", warmup=20)
    """Settings of all trainings, but for what the search chooses."""
    rungs: tuple[Rung, ...] = Field(
        default=(Rung(seconds=15, configurations=12), Rung(seconds=60, configurations=4)),
        min_length=1,
    )
    """Budgets in rising order, each with the number of configurations that get it."""
    extension: Extension | None = None
    """Longer budget, for some of the families."""
    rate_seconds: PositiveFloat = 2.0
    """Seconds in which the rate of updates of a configuration is measured."""
    scoring: Scoring = Scoring()
    """Settings of the scores."""

    @validator(mode="after")
    def _rising(self) -> Self:
        budgets = [r.seconds for r in self.rungs]
        budgets += [self.extension.seconds] if self.extension else []
        if budgets != sorted(set(budgets)):
            raise ValueError(f"budgets have to rise from rung to rung, got {budgets}")
        numbers = [rung.configurations for rung in self.rungs]
        if numbers != sorted(numbers, reverse=True):
            raise ValueError(
                f"each rung takes some of the one before, got {numbers} configurations"
            )
        known = [entrant.label or entrant.flow for entrant in expanded(self.flows)]
        named = self.extension.labels if self.extension else ()
        if self.extension and not (named or self.extension.best):
            raise ValueError("the extension is for no family: give labels, or best")
        if unknown := [label for label in named if label not in known]:
            raise ValueError(f"extension of {unknown[0]!r}; choose from: {', '.join(known)}")
        return self


class Entry:
    """The cases of one family on one data set."""

    def __init__(
        self, options: FrontierOptions, common: Common, entrant: Entrant, dataset: str
    ) -> None:
        self.options, self.common, self.entrant = options, common, entrant
        self.label = entrant.label or entrant.flow
        self.fields: dict[str, Any] = {"study": NAME, "flow": entrant.flow}
        self.fields |= {"dim": datasets.dim(dataset), "dataset": dataset}
        self.fields["batch"] = entrant.batch or options.batch
        self.sizes = sized(options.sizes, dataset)

    def cases(self) -> Iterator[Case]:
        """Yield the rates, then the trials of each rung with the finals of its budget."""
        first, *others = self.options.rungs
        space = self.entrant.space
        chosen = configurations(space, first.configurations, self.common.seeds[0])
        rates = {one.number: self._rate(one) for one in chosen}
        yield from {case.key: case for case in rates.values()}.values()
        trials = [self._trial(first, one, rates[one.number]) for one in chosen]
        yield from trials
        yield from self._finals(first, trials)
        for rung in others:
            needs = tuple(case.key for case in trials)
            places = range(min(rung.configurations, len(trials)))
            trials = [
                self._case("trial", {"seconds": rung.seconds, "place": place}, needs=needs)
                for place in places
            ]
            yield from trials
            yield from self._finals(rung, trials)

    def _rate(self, chosen: Configuration) -> Case:
        """The rate of updates of a configuration, whatever its learning rate is."""
        training = {**self._training(chosen), "learning_rate": self.options.training.learning_rate}
        settings = {"seconds": self.options.rate_seconds, "training": training}
        return self._case("rate", settings, chosen)

    def _trial(self, rung: Rung, chosen: Configuration, rate: Case) -> Case:
        settings = {"seconds": rung.seconds, "configuration": chosen.number}
        return self._case("trial", settings, chosen, needs=(rate.key,))

    def _finals(self, rung: Rung, trials: Sequence[Case]) -> Iterator[Case]:
        settings = {"seconds": rung.seconds, "scoring": self.options.scoring.model_dump()}
        needs = tuple(case.key for case in trials)
        for seed in self.common.seeds:
            yield self._case("final", settings, needs=needs, seed=seed)

    def _training(self, chosen: Configuration | None) -> dict[str, Any]:
        """Settings of a training; without a configuration they lack what it decides."""
        own = self.entrant.training.model_dump(exclude_unset=True)
        training = self.options.training.model_dump() | own | (chosen.training if chosen else {})
        lacking = set() if chosen else {"learning_rate", "preprocessing"}
        return Training.model_validate(training).model_dump(exclude=lacking)

    def _case(
        self,
        stage: str,
        settings: Mapping[str, Any],
        chosen: Configuration | None = None,
        needs: tuple[str, ...] = (),
        seed: int | None = None,
    ) -> Case:
        """A case of a stage; without a configuration its options are those of the entrant."""
        own = {**self.entrant.options, **(chosen.options if chosen else {})}
        entrant = self.entrant.model_copy(update={"options": own})
        named: dict[str, Any] = {"stage": stage, "label": self.label}
        named["training"] = self._training(chosen)
        return self.common.case(
            self.common.seeds[0] if seed is None else seed,
            options=entrant.complete(self.sizes, self.fields["dim"]),
            settings={**named, **settings},
            needs=needs,
            **self.fields,
        )


def extended(finals: Sequence[Case], extension: Extension) -> Iterator[Case]:
    """Finals with a longer budget, of families that those of the last rung decide."""
    rule = extension.model_dump(include={"labels", "best"}, mode="json")
    changes = {"seconds": extension.seconds, "extension": rule}
    needs = tuple(case.key for case in finals)
    seeds = sorted({case.seeds.init for case in finals})[: extension.seeds]
    for case in finals:
        if case.seeds.init in seeds:
            yield case.changed(settings={**case.settings, **changes}, needs=needs)
