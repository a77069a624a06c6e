"""RNODE: FFJORD that is trained towards straight paths, which take fewer evaluations to solve."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import flows
from flows.continuous.cnf import pieces
from flows.continuous.regularizers import Regularized
from flows.continuous.solve import Solver
from flows.continuous.trace import Trace
from flows.continuous.vector_fields import MLPField


@flows.register("rnode", uses=("hidden", "depth", "layers", "context_dim"))
def rnode(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 1,
    context_dim: int = 0,
    kinetic: float = 0.01,
    jacobian: float = 0.01,
    activation: str = "tanh",
    time: str = "concat",
    trace: Trace | str | Mapping[str, Any] = "hutchinson",
    solver: Solver | str | Mapping[str, Any] = Solver(),  # noqa: B008  (frozen)
    train_end_time: bool = False,
) -> Regularized:
    """RNODE: FFJORD with penalties on the speed of its paths and on the Jacobian along them.

    The loss adds the integrals of ``kinetic`` ½ ‖f‖² and ``jacobian`` ‖εᵀ ∂f/∂x‖² over time, the
    latter of the product that Hutchinson's estimate needs anyway; log_prob and its steps are
    FFJORD's. Finlay et al., How to Train Your Neural ODE, 2020, arXiv:2002.02798.

    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    field = partial(
        MLPField,
        dim,
        hidden=hidden,
        depth=depth,
        activation=activation,
        time=time,
        context_dim=context_dim,
    )
    transform = pieces(
        field,
        layers,
        trace=trace,
        solver=solver,
        train_end_time=train_end_time,
        regularizers={"kinetic": kinetic, "jacobian": jacobian},
    )
    return Regularized(transform, dim, context_dim)
