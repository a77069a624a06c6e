"""Scoring a trained or fitted density on a test set: likelihood, speed, pictures."""

from __future__ import annotations

import copy
import math
import time
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, PositiveFloat, PositiveInt
from torch import Tensor

import flows
from benchmarks.baselines import BASELINES
from benchmarks.case import Case
from benchmarks.datasets import Dataset
from benchmarks.measure.clock import interleave
from benchmarks.measure.operations import Operations
from benchmarks.stats import standard_error
from benchmarks.studies import Result
from benchmarks.training import checkpoint
from benchmarks.training.loop import train
from benchmarks.training.preparing import prepare
from benchmarks.training.settings import Training

CERTAIN = 5  # standard errors above the data's entropy at which no density is


class Scoring(BaseModel, frozen=True, extra="forbid"):
    """How a density is judged: rows, tolerance, and the sizes of pictures."""

    rows: PositiveInt = 5000  # of the test set
    chunk: PositiveInt = 1000  # rows solved together: step control couples them
    tolerance: PositiveFloat = 1e-5  # rtol and atol of the exact density, in float64
    checked_rows: PositiveInt = 1000  # on which a tenfold tighter tolerance is tried
    grid: PositiveInt = 160  # points a side of a two-dimensional density's image
    samples: PositiveInt = 3000


def score_flow(case: Case, data: Dataset) -> Result:
    """Train the flow of a case on a data set and score it."""
    settings = Training.model_validate(case.settings["training"])
    scoring = Scoring.model_validate(case.settings["scoring"])
    dtype = getattr(torch, case.dtype)
    flow = prepare(case, data.train.to(dtype), settings.whiten)
    history = train(flow, data, case, settings, checkpoint=checkpoint.slot(case))
    metrics: dict[str, float | list[float]] = {
        "parameters": sum(p.numel() for p in flow.parameters() if p.requires_grad),
        **history.metrics(),
    }
    x = data.test[:1000].to(case.device, dtype)
    metrics |= speed(flow.using(trace="exact"), x, case.device)
    precise, rows = exact(flow, scoring.tolerance), data.test[: scoring.rows].to(case.device)
    with flows.count_nfe(precise) as evaluations:
        log_prob = _in_chunks(precise, rows, scoring.chunk)
    if evaluations.forward:
        metrics["test_nfe"] = evaluations.forward / math.ceil(len(rows) / scoring.chunk)
        metrics |= _solver_errors(flow, log_prob, rows[: scoring.checked_rows], dtype, scoring)
    arrays = history.arrays()
    if case.dim == 2:
        view = flow.using(trace="exact")
        points, extent = _grid(data, scoring.grid)
        image = _in_chunks(view, points.to(case.device, dtype), scoring.grid**2)
        arrays |= {
            "image": image.reshape(scoring.grid, -1)
            .cpu()
            .clamp(min=-1e4)
            .numpy()
            .astype(np.float16),
            "extent": extent,
            "samples": view.sample(scoring.samples).cpu().numpy().astype(np.float16),
        }
    return _result(metrics, arrays, log_prob.cpu().numpy(), data)


def score_baseline(case: Case, data: Dataset) -> Result:
    """Fit a baseline on a data set and score it."""
    scoring = Scoring.model_validate(case.settings["scoring"])
    start = time.perf_counter()
    fitted = BASELINES[case.flow](data.train.numpy(), case.seeds.init)
    metrics: dict[str, float | list[float]] = {
        "train_seconds": time.perf_counter() - start,
        "parameters": fitted.parameters,
    }
    test = data.test.numpy()
    works = {
        "log_prob": lambda: fitted.log_prob(test[:1000]),
        "sample": lambda: fitted.sample(1000),
    }
    metrics |= _rates(interleave(works, seconds=0.5))
    return _result(metrics, {}, fitted.log_prob(test[: scoring.rows]), data)


def _result(
    metrics: dict[str, float | list[float]],
    arrays: dict[str, np.ndarray],
    log_prob: np.ndarray,
    data: Dataset,
) -> Result:
    """The metrics that every density has, from its log-densities of the test rows."""
    if not np.isfinite(log_prob).all():
        bad = int((~np.isfinite(log_prob)).sum())
        return Result(failure=f"log_prob is not finite for {bad} of {len(log_prob)} test rows")
    groups = None if data.groups is None else data.groups[: len(log_prob)].numpy()
    mean, error = float(log_prob.mean()), standard_error(log_prob, groups)
    metrics |= {"test_ll": mean, "test_ll_se": error}
    arrays = {**arrays, "test_log_prob": log_prob.astype(np.float32)}
    if data.entropy is None:
        return Result(metrics, arrays)
    metrics["gap"] = gap = -data.entropy - mean
    if gap < -(CERTAIN * error + 0.01):
        above = f"{-gap:.3f} nats above what the entropy of {data.name} allows"
        return Result(metrics, arrays, failure=f"log_prob is no density: {above}; try check")
    return Result(metrics, arrays)


def _solver_errors(
    flow: flows.Flow, log_prob: Tensor, rows: Tensor, dtype: torch.dtype, scoring: Scoring
) -> dict[str, float]:
    """What a tighter tolerance and what the flow's own solver make of the exact likelihood."""
    best = log_prob[: len(rows)]
    tighter = _in_chunks(exact(flow, scoring.tolerance / 10), rows, scoring.chunk)
    own = _in_chunks(flow.using(trace="exact"), rows.to(dtype), scoring.chunk)
    return {
        "ll_shift": abs((tighter - best).mean().item()),
        "solver_gap": (own - best).mean().item(),
    }


def exact(flow: flows.Flow, tolerance: float) -> flows.Flow:
    """The flow's exact density: exact trace, float64, an adaptive solver at ``tolerance``."""
    solver = {"method": "dopri5", "rtol": tolerance, "atol": tolerance}
    return copy.deepcopy(flow).double().using(trace="exact", solver=solver)


@torch.no_grad()
def _in_chunks(flow: flows.Flow, x: Tensor, rows: int) -> Tensor:
    return torch.cat([flow.log_prob(part) for part in torch.split(x, rows)])


def speed(flow: flows.Flow, x: Tensor, device: str) -> dict[str, Any]:
    """FLOPs and seconds of log_prob, and of sampling, as the flow solves its ODE itself."""

    def log_prob() -> None:
        with torch.no_grad():
            flow.log_prob(x)

    with Operations() as operations:
        log_prob()
    works = {"log_prob": log_prob, "sample": lambda: flow.sample(1000)}
    rates = _rates(interleave(works, seconds=0.5, device=device), len(x))
    return {"row_flops": operations.flops / len(x), **rates}


def _rates(samples: dict[str, list[float]], rows: int = 1000) -> dict[str, Any]:
    return {
        "per_1000_seconds": [seconds * 1000 / rows for seconds in samples["log_prob"]],
        "sample_rate": [1000 / seconds for seconds in samples["sample"]],
        "reference_seconds": samples["reference"],
    }


def _grid(data: Dataset, side: int) -> tuple[Tensor, np.ndarray]:
    """Points (side², 2) that cover the data, row by row from below, and (x0, x1, y0, y1)."""
    low, high = data.train.amin(0), data.train.amax(0)
    margin = 0.05 * (high - low)
    low, high = low - margin, high + margin
    xs, ys = (torch.linspace(float(low[i]), float(high[i]), side) for i in (0, 1))
    x, y = torch.meshgrid(xs, ys, indexing="xy")
    extent = np.array([low[0], high[0], low[1], high[1]], dtype=float)
    return torch.stack([x.flatten(), y.flatten()], 1).double(), extent
