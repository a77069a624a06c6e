"""Our figures beside the literature's: flows trained by a protocol, on the published sets."""

from collections.abc import Iterator
from dataclasses import replace

from pydantic import PositiveFloat

from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.core.study import Common, Result, register
from benchmarks.datasets.disk import Absent
from benchmarks.datasets.maf import PUBLISHED
from benchmarks.evaluation.scoring import Scoring, score
from benchmarks.studies.contender import Trainees, TrainingStudy, fitted
from benchmarks.training.baselines import BaselineEntry


class PublishedOptions(Trainees, frozen=True):
    """The published study's part of a suite; what it leaves out the protocols say."""

    datasets: tuple[str, ...] = tuple(PUBLISHED)
    """Data sets with published figures, by name."""
    baselines: tuple[BaselineEntry, ...] = (BaselineEntry(flow="gaussian"),)
    """Baselines that are fitted beside the flows."""
    update_seconds: PositiveFloat = 1.0
    """Seconds that an update is expected to take. They serve the plan alone."""
    scoring: Scoring = Scoring(rows=1_000_000)
    """Settings of the scores."""


@register
class Published(TrainingStudy):
    """Test log-likelihoods beside those of the papers, with what is not alike."""

    name = "published"
    needs_data = False  # a record says that a set is absent
    Options = PublishedOptions

    def cases(self, options: PublishedOptions, common: Common) -> Iterator[Case]:
        """For each data set, whether its files are there or not, the baselines and the flows."""
        validated = options.training.model_dump(include={"validation_rows"})
        settings = {"scoring": options.scoring.model_dump(), "training": validated}
        for name in options.datasets:
            yield from fitted(options.baselines, common, name, settings, study=self.name)
            for one in options.flows:
                roles = {"by": one.protocol or options.protocol, "expected": options.update_seconds}
                alone = options.model_copy(update={"flows": (one,)})
                yield from alone.repeated(common, name, settings, roles=roles, study=self.name)

    def budget(self, case: Case) -> float:
        """Seconds: what the suite expects of a training, and its scoring."""
        return 10 + float(case.roles.get("expected", 0)) * case.updates

    def result(self, case: Case) -> Result:
        """Train by the protocol and score as the density study does; say whether the data is."""
        name = str(case.dataset)
        try:
            data = datasets.load(name, seed=case.seeds.data)
        except Absent as error:
            return Result(failure=str(error), notes={"absent": True})
        rows = [len(part) for part in (data.train, data.val, data.test)]
        reference = PUBLISHED.get(name)
        otherwise = reference.differs(data.dim, rows) if reference else "not a set of the papers"
        if data.dim != case.dim:
            return Result(failure=f"data set {name!r} is {otherwise}")
        result = score(case, data)
        return replace(result, notes={**result.notes, "data_differs": otherwise})
