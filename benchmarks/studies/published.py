"""Our figures beside the literature's: flows trained by a protocol, on the published sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import pandas as pd
from pydantic import BaseModel, PositiveFloat, PositiveInt

from benchmarks import datasets
from benchmarks.baselines import BASELINES
from benchmarks.case import Case
from benchmarks.datasets.disk import Absent
from benchmarks.datasets.maf import PUBLISHED, differs
from benchmarks.exhibit import Figure, Table
from benchmarks.scoring import Scoring, score_baseline, score_flow
from benchmarks.studies import Common, Result, Trainee, expanded, register
from benchmarks.training.settings import Training
from benchmarks.views import published


class PublishedOptions(BaseModel, frozen=True, extra="forbid"):
    """The published study's part of a suite; what it leaves out the protocols say.

    ``seconds`` is what a training is expected to take, for the plan alone; fewer ``updates`` than
    the protocol's take that share of it.
    """

    flows: tuple[Trainee, ...]
    datasets: tuple[str, ...] = tuple(PUBLISHED)
    baselines: tuple[str, ...] = ("gaussian",)
    sizes: dict[str, PositiveInt] = {}
    batch: PositiveInt = 256
    updates: PositiveInt = 1000
    seconds: PositiveFloat = 10.0
    training: Training = Training()
    protocol: str | None = None
    scoring: Scoring = Scoring(rows=1_000_000)


@register
class Published:
    """Test log-likelihoods beside those of the papers, with what is not alike."""

    name: ClassVar[str] = "published"
    question: ClassVar[str] = "How do our figures compare with those of the papers?"
    reads: ClassVar[tuple[str, ...]] = ()
    timed: ClassVar[bool] = True
    Options: ClassVar = PublishedOptions

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def cases(self, options: PublishedOptions, common: Common) -> Iterator[Case]:
        """For each data set, whether its files are there or not, the baselines and the flows."""
        scoring = {"scoring": options.scoring.model_dump()}
        for name in options.datasets:
            known = PUBLISHED.get(name)
            dim = known.dim if known else datasets.load(name).dim
            for baseline in options.baselines:
                if baseline not in BASELINES:
                    choices = ", ".join(BASELINES)
                    raise ValueError(f"unknown baseline {baseline!r}; choose from: {choices}")
                yield common.case(
                    study=self.name,
                    flow=baseline,
                    dim=dim,
                    dataset=name,
                    batch=options.batch,
                    settings=scoring,
                )
            for each in expanded(options.flows):
                trainee, whole = (each.under(said, name) for said in (options, _unsaid(options)))
                training = trainee.trained(options.training)
                updates = trainee.updates or options.updates
                for seed in common.seeds:
                    case = common.case(
                        seed,
                        study=self.name,
                        flow=trainee.flow,
                        dim=dim,
                        options=trainee.complete(options.sizes, dim),
                        dataset=name,
                        batch=trainee.batch or options.batch,
                        updates=updates,
                        settings={
                            **scoring,
                            **trainee.rules,
                            "training": training,
                            "by": each.protocol or options.protocol,
                        },
                    )
                    share = updates / (whole.updates or options.updates)
                    self._seconds[case.key] = options.seconds * share
                    yield case

    def block(self, case: Case) -> str:
        """Each case alone."""
        return case.key

    def budget(self, case: Case) -> float:
        """Seconds: what the suite expects of a training, and its scoring."""
        return 10 + self._seconds.get(case.key, 0)

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Train by the protocol and score as the density study does; say whether the data is."""
        for case in cases:
            yield case.key, _measured(case)

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        """Our figures beside the papers', what is not alike, and all that was published."""
        return published.tables(frame)

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        """None: the tables say it all."""
        return []


def _unsaid(options: PublishedOptions) -> PublishedOptions:
    """The options without an own number of updates."""
    said = options.model_fields_set - {"updates"}
    return PublishedOptions(**{name: getattr(options, name) for name in said})


def _measured(case: Case) -> Result:
    name = str(case.dataset)
    try:
        data = datasets.load(name, seed=case.seeds.data)
    except Absent as error:
        return Result(failure=str(error), notes={"absent": True})
    rows = [len(part) for part in (data.train, data.val, data.test)]
    otherwise = differs(name, data.dim, rows) if name in PUBLISHED else "not a set of the papers"
    if data.dim != case.dim:
        return Result(failure=f"data set {name!r} is {otherwise}")
    result = (score_baseline if case.flow in BASELINES else score_flow)(case, data)
    return replace(result, notes={**result.notes, "data_differs": otherwise})
