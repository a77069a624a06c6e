"""Scores of a trained or fitted density on a test set: likelihood, samples, speed, pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flows
from benchmarks.analysis.inference import standard_error
from benchmarks.core.case import Case
from benchmarks.core.study import Result
from benchmarks.datasets import Dataset
from benchmarks.evaluation import pictured
from benchmarks.evaluation.fields import field_of, trained_by
from benchmarks.evaluation.likelihood import exact, hutchinson, in_chunks, row_flops, settle
from benchmarks.evaluation.settings import Scoring
from benchmarks.evaluation.speed import ROWS, rates, timed
from benchmarks.evaluation.two_samples import compare
from benchmarks.measure.clock import interleave
from benchmarks.training.baselines import BASELINES, BaselineEntry, fit
from benchmarks.training.baselines.density import Baseline
from benchmarks.training.loop import train
from benchmarks.training.seconds import kept
from benchmarks.training.state import prepared
from benchmarks.training.weights import keep
from flows.budget import trainable
from flows.continuous import SolveError

IMPOSSIBLE = 5  # standard errors above the truth that no density reaches
DRAWN = 1e-5  # tolerance of samples and pictures


Metrics = dict[str, float | list[float]]


def score(case: Case, data: Dataset) -> Result:
    """Fit the baseline or train the flow of a case on a data set, and score it."""
    return (score_baseline if case.flow in BASELINES else score_flow)(case, data)


def score_flow(case: Case, data: Dataset) -> Result:
    """Train the flow of a case on a data set and score it."""
    scoring = Scoring.model_validate(case.settings["scoring"])
    dtype = getattr(torch, case.dtype)
    flow, settings = prepared(case, data)
    history = train(flow, data, case, settings, continuation=scoring.continuation)
    keep(case, flow, data, val_ll=history.metrics()["val_ll"])
    metrics: Metrics = {"parameters": trainable(flow), **history.metrics()}
    notes: dict[str, Any] = {"trained_by": trained_by(flow), "field": field_of(flow, case.options)}
    notes |= {"stopped": history.stopped} if history.stopped else {}
    view = flow.using(trace="exact")
    metrics["row_flops"] = row_flops(view, data.test[:ROWS].to(case.device, dtype))
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
    except SolveError as error:  # the likelihood is kept
        notes["no_comparison"] = f"samples cannot be drawn: {error}"
    result = likelihood_result(metrics, arrays, notes, log_prob.cpu().numpy(), data)
    return _pending(result, scoring, kept(flow, history))


def _draw(
    flow: flows.Flow,
    case: Case,
    data: Dataset,
    scoring: Scoring,
    metrics: Metrics,
    arrays: dict[str, np.ndarray],
    notes: dict[str, Any],
) -> None:
    """Add samples and pictures, in float64 and by an adaptive solver, to hide no solver's error."""
    precise = exact(flow, DRAWN)
    with torch.random.fork_rng([case.device] if case.device.startswith("cuda") else []):
        torch.manual_seed(case.seeds.noise)
        samples = precise.sample(max(scoring.samples, scoring.compared_rows))
        arrays |= _pictures(precise, samples, case, data, scoring)
    x = samples.cpu().numpy()
    metrics |= compare(x, data, scoring.compared_rows, scoring.projections, notes)


def _pictures(
    flow: flows.Flow, samples: Tensor, case: Case, data: Dataset, scoring: Scoring
) -> dict[str, np.ndarray]:
    """Return the arrays that pictures of a flow are drawn from."""
    if data.width > 2:
        return pictured.corner(samples, data)
    if case.dim < 2:
        return {}
    layers = int(case.options.get("layers", 0))
    own = samples[: scoring.samples]
    return pictured.plane(flow, own, data, grid=scoring.grid, layers=layers)


def score_baseline(case: Case, data: Dataset) -> Result:
    """Fit a baseline on a data set and score it."""
    scoring = Scoring.model_validate(case.settings["scoring"])
    start = time.process_time()
    fitted = _fitted(case, data)
    seconds = time.process_time() - start
    validation = float(fitted.log_prob(data.val.numpy()).mean())
    metrics: Metrics = {"parameters": fitted.parameters, "val_ll": validation}
    metrics["train_process_seconds"] = seconds
    test, notes = data.test.numpy(), dict(fitted.notes)
    samples = fitted.sample(scoring.compared_rows)
    metrics |= compare(samples, data, scoring.compared_rows, scoring.projections, notes)
    arrays = pictured.corner(torch.as_tensor(samples), data) if data.width > 2 else {}
    log_prob = fitted.log_prob(test[: scoring.rows])
    result = likelihood_result(metrics, arrays, notes, log_prob, data)
    return _pending(result, scoring, {})


def _pending(result: Result, scoring: Scoring, kept: Mapping[str, Tensor] | None) -> Result:
    """The result with what its times need, unless it failed or times are not asked for."""
    return replace(result, kept=kept if scoring.seconds and not result.failure else None)


def times(case: Case, data: Dataset, kept: Mapping[str, Tensor]) -> Result:
    """Time a training that is kept, or a baseline's fit, and the calls of the density."""
    seconds = Scoring.model_validate(case.settings["scoring"]).seconds
    if case.flow not in BASELINES:
        return timed(case, data, kept, seconds)
    start = time.perf_counter()
    fitted = _fitted(case, data)
    train_seconds = time.perf_counter() - start
    rows = data.test[:ROWS].numpy()
    works = {"log_prob": lambda: fitted.log_prob(rows), "sample": lambda: fitted.sample(ROWS)}
    samples = interleave(works, seconds=seconds)
    return Result({"train_seconds": train_seconds, **rates(samples, len(rows))})


def _fitted(case: Case, data: Dataset) -> Baseline:
    """Fit the baseline of a case."""
    settings = {k: v for k, v in case.settings.items() if k in BaselineEntry.model_fields}
    entry = BaselineEntry(flow=case.flow, **settings)
    rows = data.train.numpy(), case.seeds.init, data.val.numpy()
    return fit(entry, *rows, given=data.context_dim)


def likelihood_result(
    metrics: Metrics,
    arrays: dict[str, np.ndarray],
    notes: dict[str, Any],
    log_prob: np.ndarray,
    data: Dataset,
) -> Result:
    """Build the result of any density: metrics of its test log-densities (N,), facts of the data.

    It is a failure if they are not finite, or above what the entropy of the data allows.
    """
    if not np.isfinite(log_prob).all():
        bad = int((~np.isfinite(log_prob)).sum())
        return Result(failure=f"log_prob is not finite for {bad} of {len(log_prob)} test rows")
    notes["data"] = data.facts
    arrays = {**arrays, "test_log_prob": log_prob.astype(np.float32)}
    groups = None if data.groups is None else data.groups[: len(log_prob)].numpy()
    if groups is not None:
        arrays["test_groups"] = groups.astype(np.int32)
    mean, error = float(log_prob.mean()), standard_error(log_prob, groups)
    metrics |= {"test_ll": mean, "test_ll_se": error}
    if data.levels is not None:
        metrics["bits_per_dim"] = math.log2(data.levels) - mean / (data.dim * math.log(2))
    if data.log_prob is not None:
        gaps = data.log_prob(data.test[: len(log_prob)]).numpy() - log_prob
        gap, error = float(gaps.mean()), standard_error(gaps, groups)
    elif data.entropy is not None:
        gap = -data.entropy - mean
    else:
        return Result(metrics, arrays, notes)
    metrics |= {"gap": gap, "gap_se": error}
    if gap < -(IMPOSSIBLE * error + 0.01):
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
    """Find the tolerance at which the exact log-densities of x (N, D) settle; add their metrics.

    ``own`` (N,) are the log-densities of x by the flow's own solver.
    """
    bounds = {"mean": scoring.settled, "row": scoring.settled_row}
    bounds |= {"start": scoring.tolerance, "end": scoring.tightest}
    settled = settle(flow, x, scoring.chunk, **bounds)
    if settled.fault:
        notes["not_settled"] = settled.fault
    metrics |= {
        "test_tolerance": settled.tolerance,
        "ll_shift": settled.shift,
        "ll_shift_row": settled.shift_row,
        "solver_gap": (own - settled.log_prob).mean().item(),
    }
    try:
        estimate, error = hutchinson(
            flow,
            x,
            scoring.chunk,
            tolerance=settled.tolerance,
            draws=scoring.draws,
            seed=seed,
        )
    except (RuntimeError, TypeError, ValueError) as fault:  # a field without such products
        notes["no_hutchinson"] = f"{type(fault).__name__}: {fault}".splitlines()[0]
        return settled.tolerance
    metrics |= {
        "checked_ll": settled.log_prob.mean().item(),
        "hutchinson_ll": estimate,
        "hutchinson_ll_se": error,
    }
    return settled.tolerance
