"""Function evaluations: against training updates, the solver's tolerance, and the dimension."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue, NonNegativeFloat, PositiveFloat, PositiveInt

import flows
from benchmarks import datasets
from benchmarks.core.case import Case, Settings
from benchmarks.core.study import Common, Result, register
from benchmarks.datasets import Dataset
from benchmarks.evaluation.likelihood import row_flops
from benchmarks.evaluation.scoring import ROWS, timed
from benchmarks.measure.calls import prepare
from benchmarks.measure.operations import Operations
from benchmarks.studies.contender import Contender, TrainingStudy
from benchmarks.training.baselines import fit
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from flows.budget import trainable
from flows.continuous.solve import ADAPTIVE


class NfeOptions(Settings, frozen=True):
    """The nfe study's part of a suite."""

    flows: tuple[Contender, ...]
    """Flows that solve an ODE."""
    datasets: tuple[str, ...]
    """Data sets, by their names or files."""
    sizes: Mapping[str, PositiveInt] = {}
    """Sizes of the networks by name (`hidden`, `depth`, `layers`), for flows that use them."""
    hidden_per_dim: PositiveFloat | None = None
    """Factor c of a width H = c D, for every flow without one of its own."""
    options: Mapping[str, JsonValue] = {}
    """Options of all flows."""
    batch: PositiveInt = 256
    """Rows of a batch, and of the fixed batch whose evaluations are counted."""
    updates: PositiveInt
    """Updates of each training."""
    checks: PositiveInt = 12
    """Times during a training at which evaluations are counted, at each tolerance."""
    tolerances: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
    """Tolerances (rtol = atol) at which the trained field is solved."""
    training: Training = Training()
    """Settings of the trainings."""
    seconds: NonNegativeFloat = 0.5
    """Seconds of timing log_prob and sampling; 0 times nothing."""


@register
class Nfe(TrainingStudy):
    """How often the solver evaluates the field, as it is trained and as tolerance tightens.

    The likelihood of validation rows stands beside it, that of a Gaussian and, where it is known,
    of the truth, so that flows can be compared at equal fit. A solver that names no first step
    takes torchdiffeq's.
    """

    name = "nfe"
    version = 2
    Options = NfeOptions

    def cases(self, options: NfeOptions, common: Common) -> Iterator[Case]:
        names = {"checks", "tolerances", "training", "seconds"}
        settings = options.model_dump(include=names)
        for name in options.datasets:
            dim = datasets.dim(name)
            for entry in options.flows:
                changes = {
                    "options": {**options.options, **entry.options},
                    "hidden_per_dim": entry.hidden_per_dim or options.hidden_per_dim,
                }
                contender = entry.model_copy(update=changes)
                fields: dict[str, Any] = {"study": self.name, "dataset": name, "settings": settings}
                fields |= {"batch": options.batch, "updates": options.updates}
                for seed in common.seeds:
                    yield contender.case(common, dim, options.sizes, seed, **fields)

    def budget(self, case: Case) -> float:
        return 2 + 0.02 * case.updates

    def result(self, case: Case) -> Result:
        """Train while counting evaluations on a fixed batch, then solve at each tolerance."""
        settings = Training.model_validate(case.settings["training"])
        data = datasets.load(str(case.dataset), seed=case.seeds.data)
        dtype = getattr(torch, case.dtype)
        solver, solving = case.options.get("solver") or {}, case
        if solver.get("method") in ADAPTIVE and solver.get("first_step") is None:  # as papers count
            solver = {**solver, "first_step": "torchdiffeq"}
            solving = case.changed(options={**case.options, "solver": solver})
        flow = prepare(solving, data.train.to(dtype), settings.preprocessing, data.support)
        fixed = data.test[: case.batch].to(case.device, dtype)
        tolerances = [float(t) for t in case.settings["tolerances"]]
        every = max(1, case.updates // int(case.settings["checks"]))

        def observe(update: int) -> tuple[float, ...] | None:
            if update % every and update != case.updates:
                return None
            view = flow.using(noise=0)
            with flows.count_nfe(view) as count:
                view.log_prob(fixed).mean().backward()
            flow.zero_grad()
            nfes, errors = _tolerances(flow, fixed, solving, tolerances)
            return update, count.forward, count.backward, *nfes, *errors

        history = train(flow, data, case, settings, observe=observe)
        observed, names = np.array(history.observations), ("updates", "nfe_forward", "nfe_backward")
        arrays = history.arrays() | dict(zip(names, observed[:, :3].T.astype(int), strict=True))
        arrays["tolerances"] = np.array(tolerances)
        arrays["nfe"], arrays["error"] = np.split(observed[:, 3:], 2, axis=1)
        view, exact = flow.using(noise=0), flow.using(trace="exact")
        with torch.no_grad(), flows.count_nfe(view) as count, Operations() as operations:
            view.log_prob(fixed)
        metrics = {
            "solve_flops": operations.flops / len(fixed),
            "solve_nfe": float(count.forward),
            "nfe_start": float(arrays["nfe_forward"][0]),
            "nfe_end": float(arrays["nfe_forward"][-1]),
            "parameters": trainable(flow),
            **history.metrics(),
            **_levels(data, case, settings),
            "row_flops": row_flops(exact, data.test[:ROWS].to(case.device, dtype)),
        }
        return timed(Result(metrics, arrays), flow, case, data, float(case.settings["seconds"]))


def _levels(data: Dataset, case: Case, settings: Training) -> dict[str, float]:
    """The likelihood of the validation rows by a Gaussian and by the truth where it is known."""
    rows = data.val[: settings.validation_rows]
    gaussian = fit("gaussian", data.train.numpy(), case.seeds.init, rows.numpy())
    levels = {"gaussian_ll": float(gaussian.log_prob(rows.numpy()).mean())}
    if data.log_prob is not None:
        levels["truth_ll"] = data.log_prob(rows).mean().item()
    return levels


@torch.no_grad()
def _tolerances(
    flow: flows.Flow, x: torch.Tensor, case: Case, tolerances: list[float]
) -> tuple[list[float], list[float]]:
    """NFE, and the largest error in log p against the tightest tolerance, in float64."""
    double, nfes, densities = copy.deepcopy(flow).double(), [], []
    solver: Any = case.options["solver"]
    for tolerance in tolerances:
        view = double.using(solver={**solver, "rtol": tolerance, "atol": tolerance}, noise=0)
        with flows.count_nfe(view) as count:
            densities.append(view.log_prob(x.double()))
        nfes.append(float(count.forward))
    best = densities[int(np.argmin(tolerances))]
    return nfes, [(density - best).abs().max().item() for density in densities]
