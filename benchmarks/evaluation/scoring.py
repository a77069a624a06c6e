"""Scoring a trained or fitted density on a test set: likelihood, samples, speed, pictures."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

import flows
from benchmarks.analysis.stats import standard_error
from benchmarks.core.case import Case
from benchmarks.core.study import Result
from benchmarks.datasets import Dataset
from benchmarks.evaluation import pictured
from benchmarks.evaluation.fields import field_of, trained_by
from benchmarks.evaluation.likelihood import exact, hutchinson, in_chunks, settle
from benchmarks.evaluation.speed import rates, speed
from benchmarks.evaluation.two_samples import compared
from benchmarks.measure.clock import interleave
from benchmarks.measure.preparing import prepare
from benchmarks.training.baselines import BASELINES
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from flows.continuous import SolveError

CERTAIN = 5  # standard errors above the truth at which no density is
SHOWN = 1e-5  # tolerance of samples and pictures


class Scoring(BaseModel, frozen=True, extra="forbid"):
    """How a density is judged: rows, tolerances, and the sizes of samples and pictures."""

    rows: PositiveInt = 5000  # of the test set
    chunk: PositiveInt = 1000  # rows solved together: step control couples them
    tolerance: PositiveFloat = 1e-5  # rtol and atol of the exact density, in float64, to begin with
    checked_rows: PositiveInt = 1000  # on which it is tightened tenfold until they move by no more
    settled: PositiveFloat = 1e-4  # nats than this in the mean
    settled_row: PositiveFloat = 1e-2  # and this in any row
    tightest: PositiveFloat = 1e-9  # tolerance that is tried
    draws: int = Field(default=4, ge=2)  # of Hutchinson's estimate, on the checked rows
    compared_rows: PositiveInt = 2000  # of samples and of the test set, at most, of the C2ST
    projections: PositiveInt = 200  # of the sliced Wasserstein distance
    grid: PositiveInt = 160  # points a side of a two-dimensional density's image
    samples: PositiveInt = 3000
    seconds: NonNegativeFloat = 0.5  # of timing log_prob and sampling; 0: not timed


Metrics = dict[str, float | list[float]]


def score(case: Case, data: Dataset) -> Result:
    """Fit the baseline or train the flow of a case on a data set, and score it."""
    return (score_baseline if case.flow in BASELINES else score_flow)(case, data)


def score_flow(case: Case, data: Dataset) -> Result:
    """Train the flow of a case on a data set and score it."""
    settings = Training.model_validate(case.settings["training"])
    scoring = Scoring.model_validate(case.settings["scoring"])
    dtype = getattr(torch, case.dtype)
    flow = prepare(case, data.train.to(dtype), settings.whiten)
    history = train(flow, data, case, settings)
    metrics: Metrics = {
        "parameters": sum(p.numel() for p in flow.parameters() if p.requires_grad),
        **history.metrics(),
    }
    notes: dict[str, Any] = {"trained_by": trained_by(flow), "field": field_of(flow, case.options)}
    view = flow.using(trace="exact")
    metrics |= speed(view, data.test[:1000].to(case.device, dtype), case.device, scoring.seconds)
    rows, tolerance = data.test[: scoring.rows].to(case.device), scoring.tolerance
    checked = rows[: scoring.checked_rows]
    with flows.count_nfe(view) as nfe:
        own = in_chunks(view, checked.to(dtype), scoring.chunk)
    if nfe.forward:
        tolerance = _solved(flow, checked, own, scoring, case.seeds.noise, metrics, notes)
    precise = exact(flow, tolerance)
    with flows.count_nfe(precise) as nfe:
        log_prob = in_chunks(precise, rows, scoring.chunk)
    if nfe.forward:
        metrics["test_nfe"] = nfe.forward / math.ceil(len(rows) / scoring.chunk)
    arrays = history.arrays()
    try:
        _draw(flow, case, data, scoring, metrics, arrays, notes)
    except SolveError as error:  # which costs the samples, not the likelihood
        notes["no_comparison"] = f"samples cannot be drawn: {error}"
    return likelihood_result(metrics, arrays, notes, log_prob.cpu().numpy(), data)


def _draw(
    flow: flows.Flow,
    case: Case,
    data: Dataset,
    scoring: Scoring,
    metrics: Metrics,
    arrays: dict[str, np.ndarray],
    notes: dict[str, Any],
) -> None:
    """Samples and pictures, in float64 and by an adaptive solver, or they would show its errors."""
    shown = exact(flow, SHOWN)
    with torch.random.fork_rng([case.device] if case.device.startswith("cuda") else []):
        torch.manual_seed(case.seeds.noise)
        samples = shown.sample(max(scoring.samples, scoring.compared_rows))
        arrays |= _pictures(shown, samples, case, data, scoring)
    x = samples.cpu().numpy()
    metrics |= compared(x, data, scoring.compared_rows, scoring.projections, notes)


def _pictures(
    flow: flows.Flow, samples: Tensor, case: Case, data: Dataset, scoring: Scoring
) -> dict[str, np.ndarray]:
    """What pictures of a flow are drawn from."""
    if case.dim < 2:
        return {}
    if case.dim > 2:
        return pictured.corner(samples, data)
    layers = int(case.options.get("layers", 0))
    shown = samples[: scoring.samples]
    return pictured.plane(flow, shown, data, grid=scoring.grid, layers=layers)


def score_baseline(case: Case, data: Dataset) -> Result:
    """Fit a baseline on a data set and score it."""
    scoring = Scoring.model_validate(case.settings["scoring"])
    start = time.perf_counter()
    fitted = BASELINES[case.flow](data.train.numpy(), case.seeds.init, data.val.numpy())
    metrics: Metrics = {
        "train_seconds": time.perf_counter() - start,
        "parameters": fitted.parameters,
    }
    test, notes = data.test.numpy(), dict(fitted.notes)
    samples = fitted.sample(scoring.compared_rows)
    metrics |= compared(samples, data, scoring.compared_rows, scoring.projections, notes)
    rows = test[:1000]
    works = {"log_prob": lambda: fitted.log_prob(rows), "sample": lambda: fitted.sample(1000)}
    metrics |= rates(interleave(works, seconds=scoring.seconds), len(rows))
    arrays = pictured.corner(torch.as_tensor(samples), data) if case.dim > 2 else {}
    return likelihood_result(metrics, arrays, notes, fitted.log_prob(test[: scoring.rows]), data)


def likelihood_result(
    metrics: Metrics,
    arrays: dict[str, np.ndarray],
    notes: dict[str, Any],
    log_prob: np.ndarray,
    data: Dataset,
) -> Result:
    """What every density has: metrics of its log-densities of the test rows, facts of the data."""
    if not np.isfinite(log_prob).all():
        bad = int((~np.isfinite(log_prob)).sum())
        return Result(failure=f"log_prob is not finite for {bad} of {len(log_prob)} test rows")
    notes["data"] = {"about": data.about, "units": data.units, "entropy": data.entropy}
    if data.columns is not None:
        notes["data"]["columns"] = list(data.columns)
    arrays = {**arrays, "test_log_prob": log_prob.astype(np.float32)}
    groups = None if data.groups is None else data.groups[: len(log_prob)].numpy()
    if groups is not None:
        arrays["test_groups"] = groups.astype(np.int32)
    mean, error = float(log_prob.mean()), standard_error(log_prob, groups)
    metrics |= {"test_ll": mean, "test_ll_se": error}
    if data.log_prob is not None:
        missed = data.log_prob(data.test[: len(log_prob)]).numpy() - log_prob
        metrics |= {"gap": float(missed.mean()), "gap_se": standard_error(missed, groups)}
    elif data.entropy is not None:
        metrics |= {"gap": -data.entropy - mean, "gap_se": error}
    gap, error = (float(metrics.get(name, 0.0)) for name in ("gap", "gap_se"))  # type: ignore[arg-type]  # numbers
    if gap < -(CERTAIN * error + 0.01):
        above = f"{-gap:.3f} nats above what the entropy of {data.name} allows"
        return Result(metrics, arrays, notes, failure=f"log_prob is no density: {above}; try check")
    return Result(metrics, arrays, notes)


def _solved(
    flow: flows.Flow,
    x: Tensor,
    own: Tensor,
    scoring: Scoring,
    seed: int,
    metrics: Metrics,
    notes: dict[str, Any],
) -> float:
    """The tolerance at which x's exact log-densities have settled, with what goes beside them.

    ``own`` are x's log-densities by the flow's own solver.
    """
    bounds = {"mean": scoring.settled, "row": scoring.settled_row}
    found = settle(flow, x, scoring.chunk, start=scoring.tolerance, end=scoring.tightest, **bounds)
    if found.fault:
        notes["not_settled"] = found.fault
    metrics |= {
        "test_tolerance": found.tolerance,
        "ll_shift": found.shift,
        "ll_shift_row": found.shift_row,
        "solver_gap": (own - found.log_prob).mean().item(),
    }
    try:
        estimate, error = hutchinson(
            flow,
            x,
            scoring.chunk,
            tolerance=found.tolerance,
            draws=scoring.draws,
            seed=seed,
        )
    except (RuntimeError, TypeError, ValueError) as fault:  # a field that takes no such product
        notes["no_hutchinson"] = f"{type(fault).__name__}: {fault}".splitlines()[0]
        return found.tolerance
    metrics |= {
        "checked_ll": found.log_prob.mean().item(),
        "hutchinson_ll": estimate,
        "hutchinson_ll_se": error,
    }
    return found.tolerance
