"""Time to a likelihood: validation NLL against seconds, updates and FLOPs of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

import flows
from benchmarks import datasets
from benchmarks.core.case import Case
from benchmarks.core.study import Common, Result, register
from benchmarks.measure.clock import REFERENCE, interleave
from benchmarks.studies.trainees import Trainees, TrainingStudy
from benchmarks.training.baselines import fit
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from benchmarks.training.state import prepared
from flows.budget import trainable

BESIDE = 0.2  # seconds of the reference workload before a training, and as many after


class Steady(Training, frozen=True):
    """A training at a constant learning rate that is looked at often.

    A rate that falls with the budget makes the time to a likelihood a matter of the budget.
    """

    schedule: Literal["constant", "cosine", "plateau", "wsd"] = "constant"
    """Course of the learning rate, one of those of every training."""
    validate_every: NonNegativeInt = 10
    """Updates between validations."""


class TimeToNllOptions(Trainees, frozen=True):
    """The time_to_nll study's part of a suite.

    Every training has the same ``seconds``, validations apart, unless its ``updates`` are over
    before.
    """

    seconds: NonNegativeFloat = 5.0
    """Seconds of each training, validations apart; 0 sets no limit and runs no reference workload.
    """
    updates: PositiveInt = 100_000
    """Updates after which a training ends at the latest."""
    training: Steady = Steady()
    """Settings of the trainings."""


@register
class TimeToNll(TrainingStudy):
    """How long each flow trains until it reaches a likelihood of the validation set."""

    name = "time_to_nll"
    uses = ("benchmarks.measure", "benchmarks.training")
    Options = TimeToNllOptions

    def cases(self, options: TimeToNllOptions, common: Common) -> Iterator[Case]:
        """A case for each data set, flow and seed."""
        for name in options.datasets:
            dim = datasets.dim(name)
            limit = {"time_limit": options.seconds}
            yield from options.repeated(common, name, dim, {}, limit, study=self.name)

    def budget(self, case: Case) -> float:
        """Seconds: those of the training, and some for its validations."""
        return 1 + 1.5 * float(case.settings["training"]["time_limit"])

    def result(self, case: Case) -> Result:
        """Train, with the reference workload before and after.

        Beside it the likelihood of the Gaussian and the evaluations of a validation.
        """
        data = datasets.load(str(case.dataset), seed=case.seeds.data)
        flow, settings = prepared(case, data)
        beside = BESIDE if settings.time_limit else 0.0
        before = interleave({}, seconds=beside, device=case.device)
        history = train(flow, data, case, settings)
        after = interleave({}, seconds=beside, device=case.device)
        validation = data.val[: settings.validation_rows]
        view = flow.using(trace="exact")
        with torch.no_grad(), flows.count_nfe(view) as nfe:
            view.log_prob(validation.to(case.device, getattr(torch, case.dtype)))
        fitted = fit("gaussian", data.train.numpy(), case.seeds.init, validation.numpy())
        metrics = history.metrics() | {
            "parameters": trainable(flow),
            "gaussian_ll": float(fitted.log_prob(validation.numpy()).mean()),
        }
        if before:
            metrics["reference_seconds"] = before[REFERENCE] + after[REFERENCE]
        if nfe.forward:
            metrics["solve_nfe"] = nfe.forward
        return Result(metrics, history.arrays())
