"""Densities: test log-likelihood by the exact trace, and what it cost to get there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pandas as pd
from pydantic import BaseModel, PositiveFloat, PositiveInt

import flows
from benchmarks import datasets
from benchmarks.baselines import BASELINES
from benchmarks.case import Case
from benchmarks.exhibit import Figure, Table
from benchmarks.scoring import Scoring, score_baseline, score_flow
from benchmarks.studies import Common, Result, Trainee, expanded, register
from benchmarks.training.settings import Training
from benchmarks.views import density, density_pictures


class DensityOptions(BaseModel, frozen=True, extra="forbid"):
    """The density study's part of a suite."""

    flows: tuple[Trainee, ...]
    datasets: tuple[str, ...]
    baselines: tuple[str, ...] = tuple(BASELINES)
    sizes: dict[str, PositiveInt] = {}
    parameters: PositiveInt | None = None  # decides the width of every flow that says none itself
    batch: PositiveInt = 256
    updates: PositiveInt = 1000
    seconds: PositiveFloat = 10.0  # that a training is expected to take: for the plan alone
    training: Training = Training()
    protocol: str | None = None  # supplies what neither the study nor a flow says
    scoring: Scoring = Scoring()


@register
class Density:
    """How good the densities are that each family learns, and at what cost."""

    name: ClassVar[str] = "density"
    question: ClassVar[str] = "How good are the densities, and what did they cost?"
    reads: ClassVar[tuple[str, ...]] = ()
    timed: ClassVar[bool] = True
    Options: ClassVar = DensityOptions

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def cases(self, options: DensityOptions, common: Common) -> Iterator[Case]:
        """For each data set the baselines, then a case for each flow and seed."""
        for name in options.datasets:
            about: dict[str, Any] = {
                "dataset": name,
                "dim": datasets.load(name).dim,
                "study": self.name,
            }
            scoring = {"scoring": options.scoring.model_dump()}
            for baseline in options.baselines:
                if baseline not in BASELINES:
                    known = ", ".join(BASELINES)
                    raise ValueError(f"unknown baseline {baseline!r}; choose from: {known}")
                yield common.case(flow=baseline, batch=options.batch, settings=scoring, **about)
            for each in expanded(options.flows):
                contender = _matched(each.under(options, name), options.parameters)
                trained = contender.trained(options.training)
                settings: dict[str, Any] = {**scoring, **contender.rules, "training": trained}
                for seed in common.seeds:
                    case = common.case(
                        seed,
                        flow=contender.flow,
                        options=contender.complete(options.sizes, about["dim"]),
                        batch=contender.batch or options.batch,
                        updates=contender.updates or options.updates,
                        settings=settings,
                        **about,
                    )
                    self._seconds[case.key] = options.seconds
                    yield case

    def block(self, case: Case) -> str:
        """Each case alone."""
        return case.key

    def budget(self, case: Case) -> float:
        """Seconds: what the suite expects of a training, and its scoring."""
        return 8 + self._seconds.get(case.key, 0)

    def measure(self, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
        """Fit or train, then score on the test set."""
        for case in cases:
            data = datasets.load(str(case.dataset), seed=case.seeds.data)
            score = score_baseline if case.flow in BASELINES else score_flow
            yield case.key, score(case, data)

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        """Of each data set: likelihoods, costs, matched budgets, and how exact they are."""
        return density.tables(frame)

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        """Pictures of the two-dimensional densities, and validation against seconds."""
        return density_pictures.figures(frame)


def _matched(contender: Trainee, parameters: int | None) -> Trainee:
    """The contender with this budget of parameters, where nothing of its own decides its width."""
    decided = "hidden" in contender.options or contender.rules
    if parameters is None or decided or "hidden" not in flows.members[contender.flow].uses:
        return contender
    return contender.model_copy(update={"parameters": parameters})
