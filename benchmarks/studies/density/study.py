"""Densities: test log-likelihood by the exact trace, and what it cost to get there."""

from collections.abc import Iterator

from pydantic import PositiveFloat

from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.core.study import Common, Result, register
from benchmarks.evaluation.scoring import Scoring, score
from benchmarks.studies.contender import Trainees, TrainingStudy, fitted
from benchmarks.training.baselines import BASELINES, BaselineEntry


class DensityOptions(Trainees, frozen=True):
    """The density study's part of a suite."""

    baselines: tuple[BaselineEntry, ...] = tuple(map(BaselineEntry.model_validate, BASELINES))
    """Baselines that are fitted beside the flows."""
    seconds: PositiveFloat = 10.0
    """Seconds that a training is expected to take. They serve the plan alone."""
    scoring: Scoring = Scoring()
    """Settings of the scores."""


@register
class Density(TrainingStudy):
    """How good the densities are that each family learns, and at what cost."""

    name = "density"
    Options = DensityOptions

    def cases(self, options: DensityOptions, common: Common) -> Iterator[Case]:
        validated = options.training.model_dump(include={"validation_rows"})
        settings = {"scoring": options.scoring.model_dump(), "training": validated}
        roles = {"expected": options.seconds}
        for name in options.datasets:
            yield from fitted(options.baselines, common, name, settings, study=self.name)
            yield from options.repeated(common, name, settings, roles=roles, study=self.name)

    def budget(self, case: Case) -> float:
        """Seconds: what the suite expects of a training, and its scoring."""
        return 8 + float(case.roles.get("expected", 0))

    def result(self, case: Case) -> Result:
        return score(case, datasets.load(str(case.dataset), seed=case.seeds.data))
