"""Modes: which of the data's modes a flow's samples reach, by likelihood and by reverse KL."""

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
from benchmarks.studies.contender import Trainees, TrainingStudy
from benchmarks.training.loop import train
from benchmarks.training.state import prepared
from flows.continuous import SolveError
from flows.training import Objective, own_loss

SETTINGS = {"samples", "rows", "tolerance"}  # options of every case
TIMED = 0.5  # seconds of timing a case
ANNEALED = 0.5  # share of the updates in which the target is annealed
DRAWN = 3000  # samples that a record keeps, for a picture


def reverse_kl(data: Dataset, power: float = 1.0) -> Objective:
    """The mean of log q(x) - log p(x) over samples x of the flow q, as many as a batch has rows.

    With a ``power`` b the target is p^b. ValueError where the data's density p is not known.
    """
    log_p = of_samples.density(data)

    def objective(flow: flows.Flow, x: Tensor) -> Tensor:
        samples, log_q = flow.rsample_and_log_prob(len(x))
        return (log_q - power * log_p(samples)).mean()

    return objective


class AnnealedKL:
    """`reverse_kl` to p^b, where b rises from 0.01 to 1 over the first half of a training.

    That is the schedule of Rezende and Mohamed, Variational Inference with Normalizing Flows, 2015,
    arXiv:1505.05770, section 6.1, whose 10,000 updates are a share here.
    """

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.advance(0.0)

    def advance(self, share: float) -> None:
        """Take the power that is due after a share of the updates."""
        self.power = min(1.0, 0.01 + share / ANNEALED)

    def __call__(self, flow: flows.Flow, x: Tensor) -> Tensor:
        return reverse_kl(self.data, self.power)(flow, x)


OBJECTIVES: dict[str, Callable[[Dataset], Objective]] = {
    "likelihood": lambda data: own_loss,
    "reverse_kl": reverse_kl,
    "annealed_kl": AnnealedKL,
}


class ModesOptions(Trainees, frozen=True):
    """The modes study's part of a suite.

    By a reverse KL the last weights stay, whatever ``training`` says: those of the best validated
    likelihood would be the ones with the least collapse.
    """

    datasets: tuple[str, ...] = ("8gaussians", "25gaussians")
    """Data sets whose modes and density are known, by name."""
    objectives: tuple[str, ...] = ("likelihood", "reverse_kl")
    """Objectives of the trainings: "likelihood", "reverse_kl", "annealed_kl"."""
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
    version = 2  # mass in a mode, and shares that are due
    Options = ModesOptions

    def cases(self, options: ModesOptions, common: Common) -> Iterator[Case]:
        """A case for each data set, objective, flow and seed; ValueError for data without modes."""
        for name, objective in product(options.datasets, options.objectives):
            if objective not in OBJECTIVES:
                names = ", ".join(OBJECTIVES)
                raise ValueError(f"unknown objective {objective!r}; choose from: {names}")
            data = datasets.load(name)
            of_samples.centres(data)  # these raise ValueError where they are not known
            of_samples.density(data)
            how: dict[str, Any] = {"study": self.name, "roles": {"expected": options.seconds}}
            how["fixed"] = {} if objective == "likelihood" else {"keep": "last"}
            settings = {"objective": objective, **options.model_dump(include=SETTINGS)}
            yield from options.repeated(common, name, settings, **how)

    def budget(self, case: Case) -> float:
        """Seconds: what the suite expects of a training, and a second for its samples."""
        return 1 + float(case.roles.get("expected", 0))

    def result(self, case: Case) -> Result:
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
    metrics |= of_samples.figures(x, data)
    excess = (log_q - of_samples.density(data)(x)).numpy()
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
        "modes": of_samples.centres(data).numpy(),
        "data_shares": of_samples.shares(data.test, data),
        "due": of_samples.due(data),
        "data_samples": data.test[:DRAWN].numpy().astype(np.float16),
    }
    return Result(metrics, arrays, notes)
