"""Likelihoods of libraries: one architecture trained by each of them, updates and seconds equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from benchmarks import datasets
from benchmarks.core.case import Case, Seeds
from benchmarks.core.record import Record
from benchmarks.core.study import Common, Result, Study, register
from benchmarks.evaluation.likelihood import exact, in_chunks
from benchmarks.evaluation.scoring import Metrics, likelihood_result
from benchmarks.studies.architectures import Groups
from benchmarks.studies.trainees import TrainingStudy
from benchmarks.training.foreign import ForeignTraining
from benchmarks.training.loop import train, update_rates
from benchmarks.training.settings import Training
from benchmarks.training.state import prepared
from flows.budget import trainable

CHUNK = 1000  # rows for which an ODE is solved together
UPDATE_RATE = 60.0  # updates a second that a plan expects
STARTS = 10.0  # seconds in which it expects a peer's processes to start and compile


class LikelihoodsOptions(Groups, frozen=True):
    """The part of a suite of the study of libraries' likelihoods."""

    datasets: tuple[str, ...]
    """Data sets, by their names or files."""
    parameters: PositiveInt = 20_000
    """Number of trainable parameters of every flow, within 5 %; it decides the width."""
    batch: PositiveInt = 128
    """Rows of a batch."""
    updates: PositiveInt = 500
    """Updates of the trainings by equal updates."""
    seconds: PositiveFloat = 5.0
    """Seconds of updates of the trainings by equal seconds, alone on the machine."""
    rate_seconds: PositiveFloat = 2.0
    """Seconds in which the rate of updates is measured."""
    training: Training = Training(preprocessing="standardize", learning_rate=3e-3)
    """Settings of all trainings."""
    rows: PositiveInt = 2000
    """Rows of the test set that are scored, at most."""
    tolerance: PositiveFloat = 1e-6
    """Tolerance of ODEs in the test log-likelihood, which is computed in float64."""


@register
class LibraryLikelihoods(Study):
    """What each library's flow of one architecture learns in equal updates and equal seconds.

    The rate of updates of each flow is measured first, alone on the machine. It makes of the
    seconds a whole number of updates, the same for all seeds, and compiling counts in none.
    """

    name = "library_likelihoods"
    uses = (*TrainingStudy.uses, "benchmarks.measure.foreign")
    Options = LikelihoodsOptions

    def cases(self, options: LikelihoodsOptions, common: Common) -> Iterator[Case]:
        """For each data set and flow its rate, then both trainings with each seed."""
        for name in options.datasets:
            for group in options.groups:
                members = group.cases(options.sizes, options.parameters, datasets.dim(name))
                for entry, fields in members:
                    own = {**fields["settings"], "training": options.training.model_dump()}
                    rated = {"stage": "rate", "seconds": options.rate_seconds}
                    rate = common.case(
                        common.seeds[0],
                        study=self.name,
                        dataset=name,
                        batch=entry.batch or options.batch,
                        **{**fields, "settings": {**own, **rated}},
                    )
                    yield rate
                    own |= options.model_dump(include={"rows", "tolerance"})
                    equal = {**own, "stage": "updates"}
                    updates = group.updates or options.updates
                    timed = {**own, "stage": "seconds", "seconds": options.seconds}
                    for seeds in map(Seeds.of, common.seeds):
                        yield rate.changed(seeds=seeds, settings=equal, updates=updates)
                        yield rate.changed(seeds=seeds, settings=timed, needs=(rate.key,))

    def alone(self, case: Case) -> bool:
        """Whether the case is a rate."""
        return bool(case.settings["stage"] == "rate")

    def budget(self, case: Case) -> float:
        """Seconds: of the updates, a guess where their number is given, the score, and a start."""
        start = STARTS if case.settings.get("by") else 0.0
        return 2 + start + float(case.settings.get("seconds", case.updates / UPDATE_RATE))

    def resolved(self, case: Case, earlier: Sequence[Record]) -> Case:
        """The case with as many updates as its seconds are, by the rate."""
        (rate,) = earlier
        if rate.status != "done":
            raise ValueError(f"its rate of updates is not known: {rate.status}, {rate.reason}")
        updates = int(rate.metrics["update_rate"].median * float(case.settings["seconds"]))
        return case.changed(updates=max(1, updates))

    def result(self, case: Case) -> Result:
        """Measure a rate, or train and score."""
        data = datasets.load(str(case.dataset), seed=case.seeds.data)
        with ExitStack() as stack:
            training: OwnTraining | ForeignTraining = OwnTraining(case, data)
            if case.settings.get("by"):
                training = ForeignTraining(stack, case, data)
            if case.settings["stage"] == "rate":
                return Result(training.rate(float(case.settings["seconds"])))
            metrics: Metrics = {**training.train()}
            log_prob = training.log_prob(data.test[: int(case.settings["rows"])])
        result = likelihood_result(metrics, {}, {}, log_prob, data)
        return result if data.split == "published" else replace(result, arrays={})


class OwnTraining:
    """The training of a case by our loop, for a flow of any library that is a member."""

    def __init__(self, case: Case, data: datasets.Dataset) -> None:
        self.case, self.data = case, data

    def rate(self, seconds: float) -> Metrics:
        """Measure updates a second in about so many seconds."""
        return {"update_rate": update_rates(self.case, self.data, seconds)}

    def train(self) -> Metrics:
        """Make all updates, and return metrics."""
        self.flow, settings = prepared(self.case, self.data)
        history = train(self.flow, self.data, self.case, settings)
        return {"parameters": trainable(self.flow), **history.metrics()}

    def log_prob(self, x: Tensor) -> np.ndarray:
        """Return log-densities of rows x (N, D), nats (N,), in float64, ODEs solved tightly."""
        view = exact(self.flow, float(self.case.settings["tolerance"]))
        log_prob: np.ndarray = in_chunks(view, x, CHUNK).numpy()
        return log_prob
