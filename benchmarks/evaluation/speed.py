"""Cost of a density and of its samples: FLOPs and seconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import flows
from benchmarks.measure.clock import interleave
from benchmarks.measure.operations import Operations


def speed(flow: flows.Flow, x: Tensor, device: str, seconds: float) -> dict[str, Any]:
    """Measure FLOPs and seconds of log_prob at x (N, D), and the sampling rate.

    The flow solves its ODE by its own solver. ``seconds`` is the time to spend on timing; with 0
    only FLOPs are counted.
    """

    def log_prob() -> None:
        with torch.no_grad():
            flow.log_prob(x)

    with Operations() as operations:
        log_prob()
    works = {"log_prob": log_prob, "sample": lambda: flow.sample(1000)}
    samples = interleave(works, seconds=seconds, device=device)
    return {"row_flops": operations.flops / len(x), **rates(samples, len(x))}


def rates(samples: dict[str, list[float]], rows: int) -> dict[str, Any]:
    """Metrics from the seconds of log_prob of ``rows`` rows and of drawing 1,000 samples."""
    if not samples:
        return {}
    return {
        "per_1000_seconds": [seconds * 1000 / rows for seconds in samples["log_prob"]],
        "sample_rate": [1000 / seconds for seconds in samples["sample"]],
        "reference_seconds": samples["reference"],
    }
