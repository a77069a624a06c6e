"""FFJORD: the continuous flow trained with a stochastic estimate of its trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nflows.transforms import CompositeTransform

import flows
from flows.continuous.cnf import pieces
from flows.continuous.solve import Solver


@flows.register("ffjord", uses=("hidden", "depth", "layers", "context_dim"))
def ffjord(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 1,
    context_dim: int = 0,
    activation: str = "tanh",
    time: str = "concat",
    solver: Solver | str | Mapping[str, Any] = Solver(),  # noqa: B008  (frozen)
) -> CompositeTransform:
    """FFJORD: a CNF whose trace is Hutchinson's estimate with one Rademacher probe a solve.

    An evaluation costs one vector-Jacobian product beside the field, whatever D is. log_prob is
    unbiased and noisy; ``flow.using(trace="exact")`` has the exact density of the same flow.
    Grathwohl et al., FFJORD, 2018, arXiv:1810.01367.

    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    return pieces(
        dim,
        layers,
        "hutchinson",
        solver,
        hidden=hidden,
        depth=depth,
        context_dim=context_dim,
        activation=activation,
        time=time,
    )
