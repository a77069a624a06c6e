"""FFJORD, trained with a stochastic estimate of its trace, and RNODE, with penalties beside it."""

from functools import partial
from typing import Any

from nflows.transforms import CompositeTransform

import flows
from flows.continuous.cnf import ODE, Net, pieces
from flows.continuous.regularizers import Regularized
from flows.continuous.trace import Trace
from flows.continuous.vector_fields import BottleneckMLPField, MLPField
from flows.registry import SIZES

# The nets of the paper's Table 4 as options of `flows.build("ffjord", ...)`.
TABLE_4: dict[str, dict[str, Any]] = {
    "POWER": {"dim": 6, "hidden": 60, "depth": 3, "layers": 5, "activation": "tanh"},
    "GAS": {"dim": 8, "hidden": 160, "depth": 3, "layers": 5, "activation": "tanh"},
    "HEPMASS": {"dim": 21, "hidden": 210, "depth": 2, "layers": 10, "activation": "softplus"},
    "MINIBOONE": {"dim": 43, "hidden": 860, "depth": 2, "layers": 1, "activation": "softplus"},
    "BSDS300": {"dim": 63, "hidden": 1260, "depth": 3, "layers": 2, "activation": "softplus"},
}
for options in TABLE_4.values():
    options.update(time="concatsquash", train_end_time=True)


@flows.register("ffjord", uses=SIZES)
def ffjord(
    dim: int, *, net: Net = Net(), ode: ODE = ODE(trace=Trace("hutchinson")), bottleneck: int = 0
) -> CompositeTransform:
    """FFJORD: a CNF whose trace is Hutchinson's estimate with one Rademacher probe a solve.

    An evaluation costs one vector-Jacobian product beside the field, whatever D is. log_prob is
    unbiased and noisy; ``flow.using(trace="exact")`` has the exact density of the same flow. With
    ``bottleneck`` K the field is g(h(x)) with h in R^K and ``depth`` hidden layers in either, and
    trace="bottleneck" estimates in R^K. `TABLE_4` has the paper's own nets by name.
    Grathwohl et al., FFJORD, 2018, arXiv:1810.01367.
    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    kind: Any = partial(BottleneckMLPField, bottleneck=bottleneck) if bottleneck else MLPField
    return pieces(partial(kind, dim, **vars(net)), ode)


@flows.register("rnode", uses=SIZES)
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
