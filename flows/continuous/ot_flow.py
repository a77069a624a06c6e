"""OT-Flow: a continuous flow down the gradient of a potential, whose trace is in closed form."""

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import flows
from flows.bijection import Pair
from flows.continuous.cnf import ODE, pieces
from flows.continuous.regularizers import Regularized
from flows.continuous.shallow import tanh
from flows.continuous.solve import Solver
from flows.continuous.trace import Trace
from flows.registry import check_whole

RANK = 10  # of the quadratic part, at most


class PotentialField(nn.Module):
    """dx/dt = -∇ₓΦ(s) of Φ(s) = wᵀN(s) + ½ ‖A s‖² + bᵀs at s = (x, t).

    N is a residual net of ``depth`` layers of width ``hidden``: u₀ = σ(K₀ s + b₀), then
    uᵢ = uᵢ₋₁ + h σ(Kᵢ uᵢ₋₁ + bᵢ) with h = 1 / (depth - 1) and σ(a) = log(eᵃ + e⁻ᵃ), so σ' = tanh.
    Gradient and Hessian are recursions over the layers. A has rank min(10, D + 1).
    """

    def __init__(self, dim: int, *, hidden: int = 64, depth: int = 2) -> None:
        check_whole(dim=dim, hidden=hidden, depth=depth)
        super().__init__()
        self.dim, self.step = dim, 1 / max(1, depth - 1)
        widths = [dim + 1, *[hidden] * depth]
        self.layers: Any = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(widths))
        self.w = nn.Parameter(torch.empty(hidden))
        self.A = nn.Parameter(torch.empty(min(RANK, dim + 1), dim + 1))
        self.b = nn.Parameter(torch.zeros(dim + 1))
        nn.init.xavier_uniform_(self.A)
        nn.init.uniform_(self.w, -(hidden**-0.5), hidden**-0.5)

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        """dx/dt (N, D) at time t (a scalar, or (N,)) and x (N, D); there is no context."""
        if context is not None:
            raise ValueError("a PotentialField takes no context, but got one")
        return -self._gradient(t, x)[0][:, :-1]

    def time_derivative(self, t: Tensor, x: Tensor) -> Tensor:
        """∂Φ/∂t (N,) at time t and x (N, D)."""
        return self._gradient(t, x)[0][:, -1]

    def with_trace(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Pair:
        """dx/dt (N, D) and minus the trace (N,) of the Hessian of Φ in x.

        O(N D H) with one layer, O(N D H²) with each further one.
        """
        gradient, slopes, pulls = self._gradient(t, x)
        curvatures = [(1 - y.square()) * z for y, z in zip(slopes, pulls, strict=True)]
        first = self.layers[0].weight[:, :-1]
        trace = self.A[:, :-1].square().sum() + curvatures[0] @ first.square().sum(1)
        if len(self.layers) > 1:
            inner = slopes[0][:, None] * first.T  # (∂u/∂x)ᵀ, (N, D, H)
        for layer, y, curvature in zip(self.layers[1:], slopes[1:], curvatures[1:], strict=True):
            outer = inner @ layer.weight.T
            trace = trace + self.step * (curvature * outer.square().sum(1)).sum(1)
            inner = inner + self.step * y[:, None] * outer
        return -gradient[:, :-1], -trace

    def _gradient(self, t: Tensor, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """∇Φ (N, D + 1), and for every layer σ' and the gradient (N, H) that comes to its σ."""
        s = torch.cat([x, t.reshape(-1, 1).expand(len(x), 1)], 1)
        first, *more = self.layers
        a = first(s)
        slopes, u = [tanh(a)], torch.zeros_like(a)
        for index, layer in enumerate(more):
            u = u + (self.step if index else 1.0) * torch.logaddexp(a, -a)
            a = layer(u)
            slopes.append(tanh(a))
        z = self.w.expand(len(x), -1)
        pulls = [z]
        for layer, y in zip(reversed(more), reversed(slopes[1:]), strict=True):
            z = z + self.step * (y * z) @ layer.weight
            pulls.insert(0, z)
        quadratic = (s @ self.A.T) @ self.A
        return (slopes[0] * z) @ first.weight + quadratic + self.b, slopes, pulls


@flows.register("ot_flow", uses=("hidden", "depth"))
def ot_flow(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    kinetic: float = 0.002,
    hjb: float = 0.01,
    ode: ODE = ODE(trace=Trace("closed_form"), solver=Solver("rk4", step_size=1 / 8)),
) -> Regularized:
    """OT-Flow: a CNF down the gradient of a potential, its trace exact in closed form.

    The loss adds the integrals of ``kinetic`` ½ ‖f‖² and of ``hjb`` |∂Φ/∂t - ½ ‖∇Φ‖²|, which is
    zero on the paths of optimal transport. The authors weigh log p instead, by α_C, and |·| by
    α_R: their README's 500 and 5 for POWER are the defaults here, 1 / α_C and α_R / α_C
    (github.com/EmoryMLIP/OT-Flow); 100 and 15 for MINIBOONE would be 0.01 and 0.15.
    An evaluation costs O(N (D H + ℓ H²)), the trace O(N D H²) for each layer after the first.
    Onken et al., OT-Flow: Fast and Accurate Continuous Normalizing Flows via Optimal Transport,
    2021, arXiv:2006.00104.
    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    field = partial(PotentialField, dim, hidden=hidden, depth=depth)
    transform = pieces(field, ode, regularizers={"kinetic": kinetic, "hjb": hjb})
    return Regularized(transform, dim, 0)
