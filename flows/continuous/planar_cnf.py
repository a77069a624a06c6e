"""The planar CNF: a sum of planar waves that gates of time switch on and off."""

from functools import partial

import torch
from nflows.transforms import CompositeTransform
from torch import Tensor, nn

import flows
from flows.bijection import Pair
from flows.continuous.cnf import ODE, pieces
from flows.continuous.shallow import ACTIVATIONS, affine, check_context, paths, value_and_trace
from flows.continuous.trace import Trace
from flows.registry import check_whole

TANH = ACTIVATIONS["tanh"]


class PlanarField(nn.Module):
    """dx/dt = Σ_h u_h σ(a_h t + c_h) tanh(w_hᵀx + b_h), a sum of ``hidden`` terms.

    A context (N, C) is added to b through a matrix. Section 4 of the paper of `planar_cnf`.
    """

    def __init__(self, dim: int, *, hidden: int = 64, context_dim: int = 0) -> None:
        check_whole(dim=dim, hidden=hidden)
        super().__init__()
        self.dim = dim
        self.inner = nn.Linear(dim, hidden)  # W and b
        self.gate = nn.Linear(1, hidden)  # a and c
        self.outer = nn.Linear(hidden, dim, bias=False)  # U
        self.context = nn.Linear(context_dim, hidden, bias=False) if context_dim else None

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """dx/dt (N, D) at time t (a scalar, or (N,)) and x (N, D)."""
        waves = TANH.value(affine(x, self.inner.weight, self._bias(context)))
        return self.outer(self._gates(t) * waves)

    def with_trace(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Pair:
        """dx/dt (N, D) at a scalar t and its trace Σ_h (w_hᵀu_h) σ_h tanh'_h (N,).

        The trace costs O(N H + D H) beside the field.
        """
        outer = self.outer.weight * self._gates(t)
        inner = (self.inner.weight, self._bias(context))
        layers = [inner, (outer, outer.new_zeros(self.dim))]
        return value_and_trace(TANH, x, paths([weight for weight, _ in layers]), layers)

    def _gates(self, t: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(t.reshape(-1, 1)))  # (1, H), or (N, H)

    def _bias(self, context: Tensor | None) -> Tensor:
        check_context(self, context, self.context is not None)
        bias = self.inner.bias
        return bias if self.context is None else bias + self.context(context)


@flows.register("planar_cnf", uses=("hidden", "layers", "context_dim"))
def planar_cnf(
    dim: int, *, hidden: int = 64, context_dim: int = 0, ode: ODE = ODE(trace=Trace("closed_form"))
) -> CompositeTransform:
    """Planar CNF: an ODE with one gated hidden layer, its trace exact in closed form.

    The continuous limit of a planar flow, of ``hidden`` bends at once. An evaluation costs
    O(N D H), the trace O(N H + D H) beside it. Chen et al., Neural Ordinary Differential
    Equations, 2018, arXiv:1806.07366.
    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    return pieces(partial(PlanarField, dim, hidden=hidden, context_dim=context_dim), ode)
