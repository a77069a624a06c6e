"""Scores of a trained or fitted density on a test set: likelihood, samples, costs, pictures."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

import flows
from benchmarks.analysis.inference import standard_error
from benchmarks.core.case import Case, Settings
from benchmarks.core.study import Result
from benchmarks.datasets import Dataset
from benchmarks.evaluation import pictures
from benchmarks.evaluation.likelihood import (
    exact,
    hutchinson,
    in_chunks,
    no_density,
    row_flops,
    settle,
)
from benchmarks.measure.operations import Work, counting
from benchmarks.training.baselines import BASELINES, BaselineEntry, fit
from benchmarks.training.loop import train
from benchmarks.training.settings import Training
from benchmarks.training.state import prepared
from benchmarks.training.weights import keep
from flows.budget import trainable
from flows.conditional import Conditional
from flows.continuous import CNF, SolveError

ROWS = 1000  # of the test set in one call of log_prob, and samples in one call of sample
TIMED = (3, 40)  # times of a call, at least and at most
IMPOSSIBLE = 5  # standard errors above the truth that no density reaches
DRAWN = 1e-5  # tolerance of samples and pictures
SHAPING = ("activation", "time")  # options that change the field but not its weights
FOLDS = 5  # of the cross-validation of a classifier two-sample test
LEAST = 100  # rows of a sample below which tests have no power

Metrics = dict[str, float | list[float]]


class Scoring(Settings, frozen=True):
    """Settings of a score: rows, tolerances, and the sizes of samples and pictures."""

    rows: PositiveInt = 5000
    """Rows of the test set that are scored, at most."""
    chunk: PositiveInt = 1000
    """Rows for which an ODE is solved together; its step control couples them."""
    tolerance: PositiveFloat = 1e-5
    """First rtol and atol of the exact density, which is solved in float64."""
    checked_rows: PositiveInt = 1000
    """Rows on which the tolerance is tightened tenfold until their densities settle."""
    settled: PositiveFloat = 1e-4
    """Nats by which the mean log-density may still move when it counts as settled."""
    settled_row: PositiveFloat = 1e-2
    """Nats by which the log-density of any row may still move then."""
    tightest: PositiveFloat = 1e-9
    """Tightest tolerance that is tried."""
    draws: int = Field(default=4, ge=2)
    """Draws of Hutchinson's estimate, on the checked rows."""
    compared_rows: PositiveInt = 2000
    """Samples that are compared with as many rows of the test set, at most."""
    projections: PositiveInt = 200
    """Random directions of the sliced Wasserstein distance."""
    grid: PositiveInt = 160
    """Points per side of the picture of a two-dimensional density."""
    samples: PositiveInt = 3000
    """Samples in the picture."""
    continuation: NonNegativeFloat = 0.2
    """Updates by which a training is continued to see whether it still improved, as a share of its
    own; 0: none.
    """
    seconds: NonNegativeFloat = 0.5
    """Seconds of timing log_prob and sampling; 0 times nothing."""


def score(case: Case, data: Dataset) -> Result:
    """Fit the baseline or train the flow of a case on a data set, and score it."""
    return (score_baseline if case.flow in BASELINES else score_flow)(case, data)


def score_flow(case: Case, data: Dataset) -> Result:
    scoring = Scoring.model_validate(case.settings["scoring"])
    dtype = getattr(torch, case.dtype)
    flow, settings = prepared(case, data)
    history = train(flow, data, case, settings, continuation=scoring.continuation)
    # the operators that are counted are those of the score
    if not counting() and (fault := no_density(flow, data.train.to(case.device))):
        return Result(failure=fault)
    keep(case, flow, data, val_ll=history.metrics()["val_ll"])
    metrics: Metrics = {"parameters": trainable(flow), **history.metrics()}
    notes: dict[str, Any] = {"trained_by": trained_by(flow), "field": field_of(flow, case.options)}
    notes |= {"stopped": history.stopped} if history.stopped else {}
    notes |= {"course": history.course} if history.course else {}
    view = flow.using(trace="exact")
    metrics["row_flops"] = row_flops(view, data.test[:ROWS].to(case.device, dtype))
    rows, tolerance = data.test[: scoring.rows].to(case.device), scoring.tolerance
    checked = rows[: scoring.checked_rows]
    with flows.count_nfe(view) as nfe:
        ours = in_chunks(view, checked.to(dtype), scoring.chunk)
    if nfe.forward:
        tolerance, solved = _solved(flow, checked, ours, scoring, case.seeds.noise, notes)
        metrics |= solved
    precise = exact(flow, tolerance)
    with flows.count_nfe(precise) as nfe:
        log_prob = in_chunks(precise, rows, scoring.chunk)
    if nfe.forward:
        metrics["test_nfe"] = nfe.forward / math.ceil(len(rows) / scoring.chunk)
    arrays = history.arrays()
    try:
        compared, samples = _draw(flow, case, data, scoring, notes)
        metrics |= compared
        arrays |= samples
    except SolveError as error:  # the likelihood is kept
        notes["no_comparison"] = f"samples cannot be drawn: {error}"
    result = likelihood_result(metrics, arrays, notes, log_prob.cpu().numpy(), data)
    return result if result.failure else timed(result, flow, case, data, scoring.seconds)


def score_baseline(case: Case, data: Dataset) -> Result:
    scoring = Scoring.model_validate(case.settings["scoring"])
    options = {k: v for k, v in case.settings.items() if k in BaselineEntry.model_fields}
    entry = BaselineEntry(flow=case.flow, **options)
    start = time.process_time()
    rows = data.train.numpy(), case.seeds.init, data.val.numpy()
    fitted = fit(entry, *rows, given=data.context_dim, support=data.support)
    seconds = time.process_time() - start
    training = Training.model_validate(case.settings.get("training", {}))
    validation = float(fitted.log_prob(data.val[: training.validation_rows].numpy()).mean())
    metrics: Metrics = {"parameters": fitted.parameters, "val_ll": validation}
    metrics |= {"train_process_seconds": seconds, "train_cpu_seconds": seconds}
    test, notes = data.test.numpy(), dict(fitted.notes)
    samples = fitted.sample(scoring.compared_rows)
    metrics |= compare(samples, data, scoring.compared_rows, scoring.projections, notes)
    arrays = pictures.corner(torch.as_tensor(samples), data) if data.width > 2 else {}
    log_prob = fitted.log_prob(test[: scoring.rows])
    result = likelihood_result(metrics, arrays, notes, log_prob, data)
    if result.failure or not scoring.seconds or counting():
        return result
    x = test[:ROWS]
    calls = (lambda: fitted.log_prob(x)), (lambda: fitted.sample(ROWS))
    return _timed(result, *calls, len(x), scoring.seconds)


def timed(result: Result, flow: flows.Flow, case: Case, data: Dataset, seconds: float) -> Result:
    """Add the CPU seconds of log_prob and of sampling by the flow's own solver; see `_timed`."""
    if not seconds or counting():
        return result
    x = data.test[:ROWS].to(case.device, getattr(torch, case.dtype))
    view = flow.using(trace="exact")

    def log_prob() -> None:
        with torch.no_grad():
            view.log_prob(x)

    return _timed(result, log_prob, lambda: view.sample(ROWS), len(x), seconds)


def _timed(result: Result, log_prob: Work, sample: Work, rows: int, seconds: float) -> Result:
    """Add the CPU seconds of log_prob of ``rows`` rows, and of drawing `ROWS` samples.

    About so many seconds are spent on them. Each call first runs unrecorded. A call that cannot be
    solved is left out, with a note.
    """
    metrics, notes = dict(result.metrics), dict(result.notes)
    for name, call in (("log_prob", log_prob), ("sample", sample)):
        samples: list[float] = []
        least, most = TIMED
        try:
            call()
            while len(samples) < least or (len(samples) < most and sum(samples) < seconds / 2):
                start = time.process_time()
                call()
                samples.append(time.process_time() - start)
        except SolveError as error:
            notes["no_speed"] = f"{name} cannot be timed: {error}"
            continue
        if call is log_prob:
            metrics["per_1000_cpu_seconds"] = [s * 1000 / rows for s in samples]
        else:
            metrics["sample_cpu_rate"] = [ROWS / s for s in samples]
    return replace(result, metrics=metrics, notes=notes)


def trained_by(flow: flows.Flow) -> str:
    """Name the objective and, for a likelihood with an ODE, its trace."""
    flow = flow.flow if isinstance(flow, Conditional) else flow
    objective: str = flow.objective
    if type(flow).loss is not flows.Flow.loss and objective == flows.Flow.objective:
        return "a loss of its own"
    odes = [module for module in flow.modules() if isinstance(module, CNF)]
    if not odes or not objective.startswith(flows.Flow.objective):
        return objective
    estimated = any(module.estimated for module in odes)
    return f"{objective}, {'estimated' if estimated else 'exact'} trace"


def field_of(flow: flows.Flow, options: Mapping[str, Any]) -> str | None:
    """Describe a field by class, shapes of weights, and `SHAPING` options; None without an ODE."""
    fields = [module.field for module in flow.modules() if isinstance(module, CNF)]
    if not fields:
        return None
    shapes = ["×".join(map(str, p.shape)) for p in fields[0].parameters() if p.dim() > 1]
    parts = [", ".join(shapes), *(str(options[name]) for name in SHAPING if name in options)]
    return f"{len(fields)} {type(fields[0]).__name__} ({'; '.join(filter(None, parts))})"


def _draw(
    flow: flows.Flow, case: Case, data: Dataset, scoring: Scoring, notes: dict[str, Any]
) -> tuple[Metrics, dict[str, np.ndarray]]:
    """Metrics of samples and arrays of pictures, in float64 and by an adaptive solver."""
    precise, arrays = exact(flow, DRAWN), {}
    with torch.random.fork_rng([case.device] if case.device.startswith("cuda") else []):
        torch.manual_seed(case.seeds.noise)
        samples = precise.sample(max(scoring.samples, scoring.compared_rows))
        if data.width > 2:
            arrays = pictures.corner(samples, data)
        elif case.dim == 2:
            layers, points = int(case.options.get("layers", 0)), samples[: scoring.samples]
            arrays = pictures.plane(precise, points, data, grid=scoring.grid, layers=layers)
    x = samples.cpu().numpy()
    return compare(x, data, scoring.compared_rows, scoring.projections, notes), arrays


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
    flow: flows.Flow, x: Tensor, ours: Tensor, scoring: Scoring, seed: int, notes: dict[str, Any]
) -> tuple[float, Metrics]:
    """Find the tolerance at which the exact log-densities of x (N, D) settle, and their metrics.

    ``ours`` (N,) are the log-densities of x by the flow's own solver.
    """
    ends = {"start": scoring.tolerance, "end": scoring.tightest}
    settled = settle(flow, x, scoring.chunk, mean=scoring.settled, row=scoring.settled_row, **ends)
    if settled.fault:
        notes["not_settled"] = settled.fault
    metrics: Metrics = {
        "test_tolerance": settled.tolerance,
        "ll_shift": settled.shift,
        "ll_shift_row": settled.shift_row,
        "solver_gap": (ours - settled.log_prob).mean().item(),
    }
    how: dict[str, Any] = {"tolerance": settled.tolerance, "draws": scoring.draws, "seed": seed}
    try:
        estimate, error = hutchinson(flow, x, scoring.chunk, **how)
    except (RuntimeError, TypeError, ValueError) as fault:  # a field without such products
        notes["no_hutchinson"] = f"{type(fault).__name__}: {fault}".splitlines()[0]
    else:
        metrics |= {"hutchinson_ll": estimate, "hutchinson_ll_se": error}
        metrics["checked_ll"] = settled.log_prob.mean().item()
    return settled.tolerance, metrics


def sliced_wasserstein(one: np.ndarray, other: np.ndarray, projections: int = 200) -> float:
    """Return the sliced Wasserstein distance of two samples of equal size, (N, D) each.

    It is the root of the mean over random directions of the squared W₂ in one dimension. Bonneel et
    al., Sliced and Radon Wasserstein Barycenters of Measures, 2015.
    """
    directions = np.random.default_rng(0).standard_normal((one.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    ordered = [np.sort(x @ directions, axis=0) for x in (one, other)]
    return float(np.sqrt(np.mean((ordered[0] - ordered[1]) ** 2)))


def c2st(
    one: np.ndarray, other: np.ndarray, groups: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the accuracy of a classifier two-sample test, and its standard error over the rows.

    Of two samples of equal size, (N, D) each; 0.5 if they cannot be distinguished. ``groups`` (N,)
    are those of dependent rows of the other sample, by which the error is clustered. Gradient-
    boosted trees, cross-validated in `FOLDS` parts. Lopez-Paz and Oquab, Revisiting Classifier
    Two-Sample Tests, 2016, arXiv:1610.06545.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rows = np.concatenate((one, other))
    label = np.repeat((0, 1), (len(one), len(other)))
    model = HistGradientBoostingClassifier(
        max_iter=30, max_leaf_nodes=15, early_stopping=False, random_state=0
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    correct = cross_val_predict(model, rows, label, cv=folds) == label
    accuracy = correct.mean()
    if groups is None:
        return float(accuracy), float(np.sqrt(accuracy * (1 - accuracy) / len(correct)))
    alone = groups.max() + 1 + np.arange(len(one))  # rows of the first sample are independent
    return float(accuracy), standard_error(correct, np.concatenate((alone, groups)))


def compare(
    samples: np.ndarray, data: Dataset, rows: int, projections: int, notes: dict[str, Any]
) -> dict[str, float | list[float]]:
    """Return both metrics of samples (N, D) and test rows, and of training and test rows (floors).

    Distances are in units of the training set's standard deviations; samples have ``rows`` rows
    each, or as many as there are. If there are no metrics, the reason is added to ``notes``.
    """
    size = min(rows, len(samples), len(data.test), len(data.train))
    if size < LEAST:
        notes["no_comparison"] = f"{size} rows are fewer than the {LEAST} that are needed"
        return {}
    if not np.isfinite(samples[:size]).all():
        notes["no_comparison"] = "samples are not all finite"
        return {}
    (test, picks), _ = _parts(data, size)
    draws = samples[:size].astype(float) / (spread := data.train.std(0).numpy())
    # contexts of samples have single precision, by which a classifier would tell them apart
    others = (test * spread).astype(np.float32) / spread if data.context_dim else test
    groups = None if data.groups is None else data.groups.numpy()[picks]
    accuracy, error = c2st(draws, others, groups)
    floor, distance_floor = _floors(data, size, projections)
    return {
        "sliced_wasserstein": sliced_wasserstein(draws, test, projections),
        "sliced_wasserstein_floor": distance_floor,
        "told_apart": accuracy,
        "told_apart_se": error,
        "told_apart_floor": floor,
        "compared_rows": size,
    }


def _parts(data: Dataset, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pick equal numbers of test and training rows at random: the rows, and their places.

    Rows are in units of the training set's standard deviations.
    """
    stream, spread = np.random.default_rng(0), data.train.std(0).numpy()
    parts = [part.numpy() for part in (data.test, data.train)]
    places = [stream.permutation(len(part))[:size] for part in parts]
    return [(part[picks] / spread, picks) for part, picks in zip(parts, places, strict=True)]


def _floors(data: Dataset, size: int, projections: int) -> tuple[float, float]:
    """Return accuracy and distance of training and test rows."""
    test, train = (rows for rows, _ in _parts(data, size))
    return c2st(train, test)[0], sliced_wasserstein(train, test, projections)
