"""Modes: which of the data's modes a flow's samples reach, by likelihood and by reverse KL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

import flows
from benchmarks import datasets
from benchmarks.analysis.inference import standard_error
from benchmarks.core.case import Case
from benchmarks.core.study import Common, Result, register
from benchmarks.datasets import Dataset
from benchmarks.evaluation import modes as of_samples
from benchmarks.evaluation.likelihood import exact
from benchmarks.evaluation.scoring import timed
from benchmarks.studies.trainees import Trainees, TrainingStudy
from benchmarks.training.loop import train
from benchmarks.training.state import prepared
from flows.continuous import SolveError
from flows.training import Objective, own_loss

SETTINGS = {"samples", "rows", "tolerance"}  # options of every case
TIMED = 0.5  # seconds of timing a case
DRAWN = 3000  # samples that a record keeps, for a picture


def reverse_kl(data: Dataset) -> Objective:
    """The mean of log q(x) - log p(x) over samples x of the flow q, as many as a batch has rows.

    ValueError where the data's density p is not known.
    """
    log_p = data.log_prob
    if log_p is None:
        raise ValueError(
            f"data set {data.name!r} has no exact density, which reverse_kl needs: take one that "
            "has, such as 8gaussians, or train by likelihood"
        )

    def objective(flow: flows.Flow, x: Tensor) -> Tensor:
        samples, log_q = flow.rsample_and_log_prob(len(x))
        return (log_q - log_p(samples)).mean()

    return objective


OBJECTIVES: dict[str, Callable[[Dataset], Objective]] = {
    "likelihood": lambda data: own_loss,
    "reverse_kl": reverse_kl,
}


class ModesOptions(Trainees, frozen=True):
    """The modes study's part of a suite.

    With reverse_kl the last weights stay, whatever ``training`` says: those of the best validated
    likelihood would be the ones with the least collapse.
    """

    datasets: tuple[str, ...] = ("8gaussians", "25gaussians")
    """Data sets whose modes and density are known, by name."""
    objectives: tuple[str, ...] = tuple(OBJECTIVES)
    """Objectives of the trainings: "likelihood" and "reverse_kl"."""
    updates: PositiveInt = 400
    """Updates of each training."""
    seconds: PositiveFloat = 5.0
    """Seconds that a training is expected to take. They serve the plan alone."""
    samples: PositiveInt = 10_000
    """Samples whose modes are counted."""
    rows: PositiveInt = 5000
    """Rows of the test set that give the likelihood, at most."""
    tolerance: PositiveFloat = 1e-5
    """Tolerance (rtol and atol) of samples and densities, which are solved in float64."""


@register
class Modes(TrainingStudy):
    """Which modes samples reach after training by likelihood, and by reverse KL."""

    name = "modes"
    Options = ModesOptions

    def cases(self, options: ModesOptions, common: Common) -> Iterator[Case]:
        """A case for each data set, objective, flow and seed; ValueError for data without modes."""
        for name, objective in product(options.datasets, options.objectives):
            if objective not in OBJECTIVES:
                names = ", ".join(OBJECTIVES)
                raise ValueError(f"unknown objective {objective!r}; choose from: {names}")
            data = datasets.load(name)
            of_samples.figures(data.val, data)  # raises if its modes or density are not known
            how: dict[str, Any] = {"study": self.name, "roles": {"expected": options.seconds}}
            how["fixed"] = {"keep": "last"} if objective == "reverse_kl" else {}
            settings = {"objective": objective, **options.model_dump(include=SETTINGS)}
            yield from options.repeated(common, name, data.dim, settings, **how)

    def budget(self, case: Case) -> float:
        """Seconds: what the suite expects of a training, and a second for its samples."""
        return 1 + float(case.roles.get("expected", 0))

    def result(self, case: Case) -> Result:
        """Train by the case's objective, then take the figures of the flow's samples."""
        data = datasets.load(str(case.dataset), seed=case.seeds.data)
        flow, settings = prepared(case, data)
        objective = OBJECTIVES[case.settings["objective"]](data)
        history = train(flow, data, case, settings, objective=objective)
        precise = exact(flow, float(case.settings["tolerance"]))
        result = scored(precise, data, case, history.metrics())
        return timed(result, flow, case, data, TIMED)


@torch.no_grad()
def scored(
    flow: flows.Flow, data: Dataset, case: Case, metrics: dict[str, float | list[float]]
) -> Result:
    """The figures of a float64 flow's samples, added to metrics; its likelihood of the data.

    Where it cannot be solved at the data, which a collapsed flow was never trained at, the notes
    say why there is no likelihood.
    """
    x, log_q = flow.rsample_and_log_prob(int(case.settings["samples"]))
    x, log_q = x.cpu(), log_q.cpu()
    if data.log_prob is None or data.modes is None:
        raise ValueError(f"data set {data.name!r} has no modes or no exact density")
    excess = (log_q - data.log_prob(x)).numpy()
    metrics |= of_samples.figures(x, data)
    metrics |= {"reverse_kl": float(excess.mean()), "reverse_kl_se": standard_error(excess)}
    notes: dict[str, Any] = {"data": of_samples.figures(data.test, data)}
    try:
        log_prob = flow.log_prob(data.test[: int(case.settings["rows"])].to(case.device))
    except SolveError as error:
        notes["test_ll"] = str(error)
    else:
        rows = log_prob.cpu().numpy()
        if bad := int((~np.isfinite(rows)).sum()):
            notes["test_ll"] = f"log_prob is not finite for {bad} of {len(rows)} test rows"
        else:
            groups = None if data.groups is None else data.groups[: len(rows)].numpy()
            metrics |= {"test_ll": float(rows.mean()), "test_ll_se": standard_error(rows, groups)}
    arrays = {
        "mode_shares": of_samples.shares(x, data),
        "samples": x[:DRAWN].numpy().astype(np.float16),
        "modes": data.modes.numpy(),
        "data_shares": of_samples.shares(data.test, data),
        "data_samples": data.test[:DRAWN].numpy().astype(np.float16),
    }
    return Result(metrics, arrays, notes)
