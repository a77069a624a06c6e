"""RNODE: FFJORD that is trained towards straight paths, which take fewer evaluations to solve."""

from __future__ import annotations

from functools import partial

import flows
from flows.continuous.cnf import pieces
from flows.continuous.options import ODE, Net, flat
from flows.continuous.regularizers import Regularized
from flows.continuous.trace import Trace
from flows.continuous.vector_fields import MLPField


@flows.register("rnode", uses=("hidden", "depth", "layers", "context_dim"))
@flat
def rnode(
    dim: int,
    *,
    net: Net = Net(),
    ode: ODE = ODE(trace=Trace("hutchinson")),
    kinetic: float = 0.01,
    jacobian: float = 0.01,
) -> Regularized:
    """RNODE: FFJORD with penalties on the speed of its paths and on the Jacobian along them.

    The loss adds the integrals of ``kinetic`` ½ ‖f‖² and ``jacobian`` ‖εᵀ ∂f/∂x‖² over time, the
    latter of the product that Hutchinson's estimate needs anyway; log_prob and its steps are
    FFJORD's. Finlay et al., How to Train Your Neural ODE, 2020, arXiv:2002.02798.

    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    regularizers = {"kinetic": kinetic, "jacobian": jacobian}
    transform = pieces(partial(MLPField, dim, **vars(net)), ode, regularizers=regularizers)
    return Regularized(transform, dim, net.context_dim)
