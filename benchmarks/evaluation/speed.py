"""What a density and its samples cost: FLOPs and seconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import flows
from benchmarks.measure.clock import interleave
from benchmarks.measure.operations import Operations


def speed(flow: flows.Flow, x: Tensor, device: str) -> dict[str, Any]:
    """FLOPs and seconds of log_prob, and of sampling, as the flow solves its ODE itself."""

    def log_prob() -> None:
        with torch.no_grad():
            flow.log_prob(x)

    with Operations() as operations:
        log_prob()
    works = {"log_prob": log_prob, "sample": lambda: flow.sample(1000)}
    found = rates(interleave(works, seconds=0.5, device=device), len(x))
    return {"row_flops": operations.flops / len(x), **found}


def rates(samples: dict[str, list[float]], rows: int = 1000) -> dict[str, Any]:
    """Metrics of the seconds of log_prob of ``rows`` rows, and of 1,000 samples."""
    return {
        "per_1000_seconds": [seconds * 1000 / rows for seconds in samples["log_prob"]],
        "sample_rate": [1000 / seconds for seconds in samples["sample"]],
        "reference_seconds": samples["reference"],
    }
