"""What a flow is trained by, and which vector field it solves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flows
from flows.continuous import CNF

SHAPING = ("activation", "time")  # options that make another field of the same weights


def trained_by(flow: flows.Flow) -> str:
    """The objective in words, and where that is a likelihood with an ODE, which trace it takes."""
    objective: str = flow.objective
    if type(flow).loss is not flows.Flow.loss and objective == flows.Flow.objective:
        return "a loss of its own"
    solved = [module for module in flow.modules() if isinstance(module, CNF)]
    if not solved or not objective.startswith(flows.Flow.objective):
        return objective
    estimated = any(module.estimated for module in solved)
    return f"{objective}, {'estimated' if estimated else 'exact'} trace"


def field_of(flow: flows.Flow, options: Mapping[str, Any]) -> str | None:
    """The field's class, the shapes of its weights and what shapes it; None without an ODE."""
    fields = [module.field for module in flow.modules() if isinstance(module, CNF)]
    if not fields:
        return None
    shapes = ["×".join(map(str, p.shape)) for p in fields[0].parameters() if p.dim() > 1]
    told = [", ".join(shapes), *(str(options[name]) for name in SHAPING if name in options)]
    return f"{len(fields)} {type(fields[0]).__name__} ({'; '.join(filter(None, told))})"
