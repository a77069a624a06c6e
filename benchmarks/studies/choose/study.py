"""The chooser: which family gives the best density of one table in the seconds that there are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from benchmarks import datasets
from benchmarks.core.case import Case, Settings
from benchmarks.core.record import Record
from benchmarks.core.study import Common, Result, Skipped, register
from benchmarks.evaluation.scoring import Scoring, score
from benchmarks.studies.choose.plan import Deadline
from benchmarks.studies.frontier.entries import Entrant
from benchmarks.studies.frontier.study import trial
from benchmarks.studies.trainees import TrainingStudy, entered, fitted, sized
from benchmarks.training.baselines import BaselineEntry
from benchmarks.training.search import Configuration, configurations, ranked
from benchmarks.training.settings import Training

NAME = "choose"


class ChooseOptions(Settings, frozen=True):
    """The chooser's part of a suite."""

    flows: tuple[Entrant, ...]
    """Families that are compared."""
    datasets: tuple[str, ...]
    """Tables, by name or by file."""
    baselines: tuple[BaselineEntry, ...] = ()
    """Baselines that are fitted beside the flows."""
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes by name, of each flow that uses them and whose space leaves them open."""
    batch: PositiveInt = 256
    """Rows of a batch."""
    training: Training = Training(schedule="wsd", warmup=20, validations=10, patience=2)
    """Settings of every training, but for what the search chooses."""
    configurations: PositiveInt = 4
    """Trials of each family."""
    places: PositiveInt = 1
    """Finals of each family: its best configurations by validation."""
    seconds: PositiveFloat = 5.0
    """Seconds of each trial, on the clock."""
    final_seconds: PositiveFloat = 20.0
    """Seconds of each final, unless a deadline decides."""
    scoring: Scoring = Scoring(
        checked_rows=250, draws=2, compared_rows=1000, grid=60, samples=1000, seconds=0
    )
    """Settings of the scores of finals."""
    minutes: PositiveFloat | None = None
    """Minutes of the run, as they were asked for."""
    left_out: tuple[str, ...] = ()
    """Families that there was no time for."""


@register
class Choose(TrainingStudy):
    """The likelihood of each family's best configuration after equal seconds on the clock.

    A family has as many trials as any other, each with the same seconds on a core of its own; the
    best by validation are trained anew for longer, and look at the test rows. The clock ends every
    training, whatever the machine does beside.
    """

    name = NAME
    version = 5  # 2: patience; 3: no depth above `DEEP`; 4: batches by rows, bins; 5: half rates
    Options = ChooseOptions
    deadline: Deadline | None = None  # of the run that this process makes

    def cases(self, options: ChooseOptions, common: Common) -> Iterator[Case]:
        """For each data set the baselines, the trials of all families in turn, and their finals."""
        for name in options.datasets:
            scoring = {"scoring": options.scoring.model_dump()}
            dim = datasets.dim(name)
            yield from fitted(options.baselines, common, name, dim, scoring, study=self.name)
            trials = [
                _case(options, common, entrant, name, "trial", chosen=chosen)
                for number in range(options.configurations)
                for entrant in entered(options.flows, name)
                for chosen in _configurations(entrant, options, common)[number : number + 1]
            ]
            yield from trials
            needs = tuple(case.key for case in trials)
            for place in range(min(options.places, options.configurations)):
                for entrant in entered(options.flows, name):
                    yield _case(options, common, entrant, name, "final", needs=needs, place=place)

    def budget(self, case: Case) -> float:
        """Seconds: those on the clock, and some for what is beside them."""
        return (6 if "scoring" in case.settings else 1) + float(case.settings.get("seconds", 5))

    def admit(self, case: Case) -> None:
        """Raise `Skipped` for a trial but the first of a family once the finals have to begin."""
        first = case.settings.get("stage") != "trial" or case.settings["configuration"] == 0
        if self.deadline is not None and not first and self.deadline.late:
            raise Skipped("no time is left for it: the machine is busier than it was")

    def resolved(self, case: Case, earlier: Sequence[Record]) -> Case:
        """A final with the configuration of its place among the family's trials, by validation.

        Its seconds are those that the deadline leaves; `Skipped` where that is nothing.
        """
        label, place = case.settings["label"], int(case.settings["place"])
        done = [record for record in earlier if record.status == "done"]
        done = [record for record in done if math.isfinite(record.metrics["val_ll"].median)]
        own = [record for record in done if record.case.settings["label"] == label]
        order = ranked([record.metrics["val_ll"].median for record in own])
        if not order:
            raise ValueError(f"none of the trials of {label} has a likelihood")
        if place >= len(order):
            raise Skipped(f"{len(order)} trials of {label} have a likelihood")
        seconds = float(case.settings["seconds"])
        if self.deadline is not None and not (seconds := self.deadline.seconds(label, done)):
            raise Skipped(f"no time is left for {label}, which is behind by its trials")
        best = own[order[place]].case
        settings = {**case.settings, "seconds": seconds}
        settings["configuration"] = best.settings["configuration"]
        settings["training"] = {**best.settings["training"], "clock": seconds}
        return case.changed(options=best.options, settings=settings)

    def result(self, case: Case) -> Result:
        """Train a trial, or train and score a baseline or a final."""
        data = datasets.load(str(case.dataset), seed=case.seeds.data)
        return trial(case, data) if case.settings.get("stage") == "trial" else score(case, data)


def _configurations(
    entrant: Entrant, options: ChooseOptions, common: Common
) -> list[Configuration]:
    return configurations(entrant.space, options.configurations, common.seeds[0])


def _case(
    options: ChooseOptions,
    common: Common,
    entrant: Entrant,
    dataset: str,
    stage: str,
    chosen: Configuration | None = None,
    needs: tuple[str, ...] = (),
    place: int | None = None,
) -> Case:
    """A trial of a configuration, or a final whose configuration trials decide."""
    seconds = options.seconds if chosen else options.final_seconds
    own = entrant.training.model_dump(exclude_unset=True) | (chosen.training if chosen else {})
    training = {**options.training.model_dump(), **own, "clock": seconds}
    roles: dict[str, Any] = {}
    settings = {"stage": stage, "label": entrant.label or entrant.flow, "seconds": seconds}
    settings["training"] = Training.model_validate(training).model_dump()
    if chosen:
        settings["configuration"] = chosen.number
    else:
        settings |= {"place": place, "scoring": options.scoring.model_dump()}
        roles = options.model_dump(
            include={"minutes", "left_out"}, exclude_defaults=True, mode="json"
        )
    complete = {**entrant.options, **(chosen.options if chosen else {})}
    dim, sizes = datasets.dim(dataset), sized(options.sizes, dataset)
    return common.case(
        common.seeds[0],
        study=NAME,
        flow=entrant.flow,
        dim=dim,
        dataset=dataset,
        batch=entrant.batch or options.batch,
        updates=1,  # at least: the clock decides
        options=entrant.model_copy(update={"options": complete}).complete(sizes, dim),
        settings=settings,
        roles=roles,
        needs=needs,
    )
