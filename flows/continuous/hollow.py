"""The hollow CNF: no column conditions itself, so that the trace is a sum of slopes."""

from functools import partial

import torch
from nflows.transforms import CompositeTransform
from nflows.transforms.made import MADE
from torch import Tensor, nn

import flows
from flows.bijection import masked_out
from flows.continuous.cnf import ODE, pieces
from flows.continuous.shallow import check_context, tanh, value_and_trace
from flows.continuous.trace import Trace
from flows.continuous.vector_fields import MLP
from flows.registry import SIZES, check_whole


class HollowField(nn.Module):
    """dx_i/dt = τ(x_i, c_i, t) with c_i = c_i(t, x_{-i}): 2 ``features`` numbers of the others.

    The conditioner is a MADE of the columns before i and one of those after it, each with ``depth``
    hidden layers of width ``hidden``; t and the context (N, C) enter both. τ is an MLP with one
    hidden layer, shared by all columns.
    """

    structural_zeros = property(masked_out)

    def __init__(
        self, dim: int, *, hidden: int = 64, depth: int = 2, features: int = 8, context_dim: int = 0
    ) -> None:
        check_whole(dim=dim, hidden=hidden, depth=depth, features=features)
        super().__init__()
        self.dim, self.features, self.context_dim = dim, features, context_dim
        plain = {"use_residual_blocks": False, "activation": tanh, "num_blocks": depth - 1}
        outer = {"context_features": 1 + context_dim, "output_multiplier": features}
        net = partial(MADE, dim, hidden, **outer, **plain)
        self.before, self.after = net(), net()
        self.tau = MLP([1 + 2 * features, hidden, 1])

    def conditioner(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """c (N, D, 2 F) at a scalar t and x (N, D); c_i does not depend on x_i."""
        check_context(self, context, self.context_dim > 0)
        beside = t.reshape(1, 1).expand(len(x), 1)
        beside = beside if context is None else torch.cat([beside, context], 1)
        shape = (self.dim, self.features)
        before = self.before(x, beside).unflatten(1, shape)
        after = self.after(x.flip(1), beside).unflatten(1, shape).flip(1)
        return torch.cat([before, after], 2)

    def transformer(self, t: Tensor, x: Tensor, c: Tensor) -> Tensor:
        """dx/dt (N, D) from x (N, D) and c (N, D, 2 F), each column from its own."""
        return self.tau(t, _beside(x, c)).view_as(x)

    def with_slopes(self, t: Tensor, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """dx/dt (N, D) and ∂τ/∂x_i (N, D) with c held fixed: Σ_h w_h σ'_h v_h for τ's weights.

        v is the column of x_i in the first layer's, so O(N D H) for the slopes.
        """
        layers = self.tau.at(t)
        (first, _), (last, _) = layers
        paths = last[0] * first[:, 0]
        dx, slopes = value_and_trace(self.tau.activation, _beside(x, c), paths, layers)
        return dx.view_as(x), slopes.view_as(x)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """dx/dt (N, D) at a scalar t and x (N, D)."""
        return self.transformer(t, x, self.conditioner(t, x, context))


def _beside(x: Tensor, c: Tensor) -> Tensor:
    """x_i and c_i in one row for each column of each sample, (N D, 1 + 2 F)."""
    return torch.cat([x[:, :, None], c], 2).flatten(0, 1)


@flows.register("hollow", uses=SIZES)
def hollow(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    context_dim: int = 0,
    features: int = 8,
    ode: ODE = ODE(trace=Trace("hollow")),
) -> CompositeTransform:
    """Hollow CNF: an ODE whose Jacobian's diagonal takes one product to compute.

    An evaluation costs O(N (D H F + ℓ H²)) with F ``features``, the exact trace O(N D H) beside
    it, for the slopes of the last step alone. Chen and Duvenaud, Neural Networks
    with Cheap Differential Operators, 2019, arXiv:1912.03579.
    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    net = {"hidden": hidden, "depth": depth, "features": features, "context_dim": context_dim}
    return pieces(partial(HollowField, dim, **net), ode)
