"""Parts of calls, by themselves: a field, with its trace, and linear layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nflows.transforms.linear import Linear
from torch import Tensor

import flows
from benchmarks.measure.operations import Operations
from flows.continuous import CNF
from flows.continuous.point import Point

Work = Callable[[], object]


def parts(flow: flows.Flow, batch: Tensor) -> dict[str, Work]:
    """Return works of the parts that the flow has, on x (N, D), without gradients.

    "field" and "rate" (field and trace) are one evaluation of every ODE; what a solve keeps of the
    weights between evaluations is computed at the first call. "linear" is one pass through every
    invertible linear layer, with its log-determinant.
    """
    return {**_evaluations(flow, batch), **_linear(flow, batch)}


def _evaluations(flow: flows.Flow, batch: Tensor) -> dict[str, Work]:
    odes = [module for module in flow.modules() if isinstance(module, CNF)]
    if not odes:
        return {}
    generator, t = torch.Generator().manual_seed(0), torch.full((), 0.5).to(batch)
    solves: list[tuple[CNF, Any, Any]] = []
    for ode in odes:
        field: Any = ode.field
        prepared = field.for_solve() if hasattr(field, "for_solve") else field
        solves.append((ode, prepared, ode.trace.draw(field, batch, generator)))

    def field_alone() -> None:
        with torch.no_grad():
            for _, field, _ in solves:
                field(t, batch)

    def rate() -> None:
        with torch.no_grad():
            for ode, field, probes in solves:
                ode.trace.rate(Point(field, t, batch, None), probes)

    return {"field": field_alone, "rate": rate}


def _linear(flow: flows.Flow, batch: Tensor) -> dict[str, Work]:
    layers = [module for module in flow.modules() if isinstance(module, Linear)]

    def linear() -> None:
        with torch.no_grad():
            for layer in layers:
                layer(batch)

    return {"linear": linear} if layers else {}


def counted(works: dict[str, Work]) -> dict[str, float]:
    """Count FLOPs of each work; "precomputation_flops" are those of the first call only."""
    flops: dict[str, list[int]] = {}
    for name, work in works.items():
        for _ in range(2):
            with Operations() as operations:
                work()
            flops.setdefault(name, []).append(operations.flops)
    metrics: dict[str, float] = {f"{name}_flops": again for name, (_, again) in flops.items()}
    if "rate" in flops:
        metrics["precomputation_flops"] = flops["rate"][0] - flops["rate"][1]
    return metrics
