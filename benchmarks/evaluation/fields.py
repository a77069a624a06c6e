"""The objective of a flow, and its vector field, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flows
from flows.conditional import Conditional
from flows.continuous import CNF

SHAPING = ("activation", "time")  # options that change the field but not its weights


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
