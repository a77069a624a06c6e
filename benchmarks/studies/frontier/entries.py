"""Options of the study of the frontier, and the cases that they ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt
from pydantic import model_validator as validator

from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.core.study import Common, Contender, expanded
from benchmarks.evaluation.scoring import Scoring
from benchmarks.training.baselines import EVERY, BaselineEntry
from benchmarks.training.search import Configuration, Rung, Space, configurations
from benchmarks.training.settings import Training, TrainingPart

NAME = "frontier"  # of the study


class Entrant(Contender, frozen=True):
    """A family, what its search may choose from, and its name in tables where that is another."""

    label: str = ""
    space: Space = Space()
    training: TrainingPart = TrainingPart()  # of which only the given values count


class Extension(BaseModel, frozen=True, extra="forbid"):
    """A longer budget for some families, and for those that are best by validation until then."""

    seconds: PositiveFloat
    seeds: PositiveInt
    labels: tuple[str, ...] = ()
    best: PositiveInt


class FrontierOptions(BaseModel, frozen=True, extra="forbid"):
    """The frontier study's part of a suite."""

    flows: tuple[Entrant, ...]
    datasets: tuple[str, ...]
    if_present: tuple[str, ...] = ()  # data sets that are left out where their files are absent
    baselines: tuple[BaselineEntry, ...] = EVERY
    sizes: dict[str, PositiveInt] = {}
    batch: PositiveInt = 256
    training: Training = Training(schedule="wsd", warmup=20)
    rungs: tuple[Rung, ...] = Field(
        default=(Rung(seconds=15, configurations=12), Rung(seconds=60, configurations=4)),
        min_length=1,
    )
    extension: Extension | None = None
    rate_seconds: PositiveFloat = 2.0  # in which a rate of updates is measured
    scoring: Scoring = Scoring()

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
            options=entrant.complete(self.options.sizes, self.fields["dim"]),
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
