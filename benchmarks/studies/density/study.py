"""Densities: test log-likelihood by the exact trace, and what it cost to get there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pandas as pd
from pydantic import PositiveFloat

from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.core.exhibit import Figure, Table
from benchmarks.core.study import Common, Result, register
from benchmarks.evaluation.scoring import Scoring, score
from benchmarks.studies.density import figures as density_pictures
from benchmarks.studies.density import tables as density
from benchmarks.studies.trainees import Trainees, fitted
from benchmarks.training.baselines import BASELINES


class DensityOptions(Trainees, frozen=True):
    """The density study's part of a suite."""

    baselines: tuple[str, ...] = tuple(BASELINES)
    seconds: PositiveFloat = 10.0  # that a training is expected to take: for the plan alone
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
        scoring = {"scoring": options.scoring.model_dump()}
        for name in options.datasets:
            dim = datasets.load(name).dim
            yield from fitted(options.baselines, common, name, dim, scoring, study=self.name)
            for case in options.repeated(common, name, dim, scoring, study=self.name):
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
            yield case.key, score(case, data)

    def tables(self, frame: pd.DataFrame) -> list[Table]:
        """Of each data set: likelihoods, costs, matched budgets, and how exact they are."""
        return density.tables(frame)

    def figures(self, frame: pd.DataFrame) -> list[Figure]:
        """Pictures of the two-dimensional densities, and validation against seconds."""
        return density_pictures.figures(frame)
