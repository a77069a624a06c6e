"""What the general flow pays for: the Jacobian of every sample, and its determinant, apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import flows
from flows import linalg
from flows.discrete.dense import DenseResidual

ROWS = 16


@pytest.mark.parametrize("dim", [16, 64, 256])
@pytest.mark.parametrize("part", ["jacobian", "determinant"])
def bench_part(benchmark: Any, part: str, dim: int) -> None:
    """One part of log_prob of ``dense`` with one layer, without gradient, on 16 rows."""
    torch.manual_seed(0)
    flow = flows.build("dense", dim, layers=1)
    (block,) = (module for module in flow.modules() if isinstance(module, DenseResidual))
    x = torch.randn(ROWS, dim)
    with torch.no_grad():
        weights = block.g.weights()
        _, jacobian = block.g.with_jacobian(x, weights)
        calls: dict[str, Callable[[], object]] = {
            "jacobian": lambda: block.g.with_jacobian(x, weights),
            "determinant": lambda: linalg.logabsdet(jacobian),
        }
        benchmark.group = f"dense D={dim}"
        benchmark.extra_info |= {"flow": "dense", "dim": dim, "rows": ROWS}
        benchmark.extra_info["threads"] = torch.get_num_threads()
        benchmark(calls[part])
