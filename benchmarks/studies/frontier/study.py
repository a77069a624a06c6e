"""The frontier: what each family reaches with equal effort at equal budgets of seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt
from pydantic import model_validator as validator

from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.core.record import Record
from benchmarks.core.study import Common, Contender, Result, Skipped, expanded, register
from benchmarks.evaluation.scoring import Scoring, score
from benchmarks.studies.trainees import TrainingStudy, fitted
from benchmarks.training.baselines import BASELINES
from benchmarks.training.loop import train
from benchmarks.training.search import Configuration, Rung, Space, configurations, ranked
from benchmarks.training.seconds import update_rate
from benchmarks.training.settings import Training, TrainingPart
from benchmarks.training.state import prepared
from flows.budget import trainable

VALIDATIONS = 5  # in the first rung's budget


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
    baselines: tuple[str, ...] = tuple(BASELINES)
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
        return self


class _Entry:
    """The cases of one family on one data set."""

    def __init__(
        self, options: FrontierOptions, common: Common, entrant: Entrant, dataset: str
    ) -> None:
        self.options, self.common, self.entrant = options, common, entrant
        self.label = entrant.label or entrant.flow
        self.fields: dict[str, Any] = {"study": Frontier.name, "flow": entrant.flow}
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
        settings = {"seconds": rung.seconds, "training": self._training(chosen)}
        settings["configuration"] = chosen.number
        return self._case("trial", settings, chosen, needs=(rate.key,))

    def _finals(self, rung: Rung, trials: Sequence[Case]) -> Iterator[Case]:
        settings = {"seconds": rung.seconds, "scoring": self.options.scoring.model_dump()}
        needs = tuple(case.key for case in trials)
        for seed in self.common.seeds:
            yield self._case("final", settings, needs=needs, seed=seed)

    def _training(self, chosen: Configuration) -> dict[str, Any]:
        own = self.entrant.training.model_dump(exclude_unset=True)
        training = self.options.training.model_dump() | own | chosen.training
        return Training.model_validate(training).model_dump()

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
        return self.common.case(
            self.common.seeds[0] if seed is None else seed,
            options=entrant.complete(self.options.sizes, self.fields["dim"]),
            settings={"stage": stage, "label": self.label, **settings},
            needs=needs,
            **self.fields,
        )


def _extended(finals: Sequence[Case], extension: Extension) -> Iterator[Case]:
    """Finals with a longer budget, of families that those of the last rung decide."""
    rule = extension.model_dump(include={"labels", "best"}, mode="json")
    changes = {"seconds": extension.seconds, "extension": rule}
    needs = tuple(case.key for case in finals)
    seeds = sorted({case.seeds.init for case in finals})[: extension.seeds]
    for case in finals:
        if case.seeds.init in seeds:
            yield case.changed(settings={**case.settings, **changes}, needs=needs)


def _extends(case: Case, finals: Sequence[Record]) -> list[Record]:
    """The finals of a case's family; `Skipped` where the longer budget is for others."""
    scores: dict[str, list[float]] = {}
    for record in finals:
        score = record.metrics["val_ll"].median
        scores.setdefault(str(record.case.settings["label"]), []).append(score)
    rule, label = case.settings["extension"], case.settings["label"]
    named, means = rule["labels"], {name: float(np.mean(own)) for name, own in scores.items()}
    others = {name: mean for name, mean in means.items() if name not in named}
    best = sorted(others, key=lambda name: -others[name])[: rule["best"]]
    if label not in (*named, *best):
        raise Skipped(f"the longer budget is for {', '.join((*named, *best))}: best by validation")
    return [record for record in finals if record.case.settings["label"] == label]


def _every(case: Case, rate: float) -> int:
    """Updates between validations, the same on every rung."""
    return max(1, int(rate * float(case.settings["seconds"])) // VALIDATIONS)


def _chosen(case: Case, best: Case, rate: float, training: Mapping[str, Any]) -> Case:
    """A case with the configuration of another, and as many updates as its seconds are."""
    settings = {**case.settings, "rate": rate, "configuration": best.settings["configuration"]}
    settings["training"] = {**best.settings["training"], **training}
    updates = max(1, int(rate * float(case.settings["seconds"])))
    return case.changed(options=best.options, updates=updates, settings=settings)


@register
class Frontier(TrainingStudy):
    """The likelihood of each family's best configuration against what it takes to train.

    On each data set a family has as many trials as any other. Its rates of updates come first,
    alone on the machine: they make of each budget a number of updates. The trials of the first
    rung follow, those of the next for the best by validation, and last, for each budget, the best
    configuration with every seed, which alone looks at test rows.
    """

    name = "frontier"
    question = "Which family reaches which likelihood, with equal effort, at which budget?"
    Options = FrontierOptions

    def cases(self, options: FrontierOptions, common: Common) -> Iterator[Case]:
        """For each data set the baselines, then each family's rates, trials and finals."""
        for name in options.datasets:
            dim, scoring = datasets.dim(name), {"scoring": options.scoring.model_dump()}
            yield from fitted(options.baselines, common, name, dim, scoring, study=self.name)
            finals: list[Case] = []
            for entrant in expanded(options.flows):
                cases = list(_Entry(options, common, entrant, name).cases())
                yield from cases
                finals += cases[-len(common.seeds) :]  # of the last rung
            if options.extension:
                yield from _extended(finals, options.extension)

    def budget(self, case: Case) -> float:
        """Seconds: those of the updates, and some for validations and scores."""
        return 10 + 1.3 * float(case.settings.get("seconds", 0))

    def alone(self, case: Case) -> bool:
        """Whether the case is a rate."""
        return case.settings.get("stage") == "rate"

    def resolved(self, case: Case, earlier: Sequence[Record]) -> Case:
        """The case with a configuration and a number of updates, by earlier rates or trials."""
        done = [record for record in earlier if record.status == "done"]
        if not done:
            first = f"{earlier[0].status}: {earlier[0].reason}"
            raise ValueError(f"none of the {len(earlier)} cases that it needs is done; {first}")
        if case.settings["stage"] == "trial" and "place" not in case.settings:
            rate = done[0].metrics["update_rate"].median
            return _chosen(case, case, rate, {"validate_every": _every(case, rate)})
        if "extension" in case.settings:
            done = _extends(case, done)
        order = ranked([record.metrics["val_ll"].median for record in done])
        place = int(case.settings.get("place", 0))
        if place >= len(order):
            raise Skipped(f"{len(order)} of {len(earlier)} trials have a likelihood")
        best = done[order[place]].case
        return _chosen(case, best, float(best.settings["rate"]), {})

    def result(self, case: Case) -> Result:
        """Measure a rate, train a trial, or train and score a baseline or a final."""
        data = datasets.load(str(case.dataset), seed=case.seeds.data)
        stage = case.settings.get("stage", "final")
        if stage == "final":
            return score(case, data)
        if stage == "rate":
            return Result({"update_rate": update_rate(case, data, float(case.settings["seconds"]))})
        flow, settings = prepared(case, data)
        history = train(flow, data, case, settings)
        return Result(history.metrics() | {"parameters": trainable(flow)}, history.arrays())
