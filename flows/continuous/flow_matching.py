"""Flow matching: a continuous flow whose field is fitted by regression, without solving an ODE."""

from typing import Any, Literal, get_args

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

import flows
from flows.bijection import fixed_image
from flows.continuous.cnf import CNF, Net
from flows.continuous.solve import Solver
from flows.continuous.vector_fields import MLPField
from flows.flow import Flow
from flows.registry import check_choice

Coupling = Literal["independent", "optimal_transport"]


class FlowMatching(Flow):
    """The density of a field from noise at t = 0 to data at t = 1, with a regression's loss.

    ``field`` is one of a `CNF` that takes one t for each row, (N,), too; ``options`` are that
    CNF's. Bijections prepended must be fixed: the regression could shrink the data, as no
    log-determinant penalises that, so the loss raises ValueError for trainable ones. ``coupling``
    decides which noise a row of data gets: an "independent" one, or by "optimal_transport" that of
    the assignment within the batch with the least squared distances, O(N³) for N rows in the worst
    case. Raises ValueError for another coupling. Lipman et al., Flow Matching for Generative
    Modeling, 2022, arXiv:2210.02747; Tong et al., Improving and Generalizing Flow-Based Generative
    Models with Minibatch Optimal Transport, 2023, arXiv:2302.00482.
    """

    objective = "flow matching"

    def __init__(
        self,
        field: nn.Module,
        dim: int | None = None,
        context_dim: int | None = None,
        *,
        coupling: Coupling = "independent",
        **options: Any,
    ) -> None:
        check_choice("coupling", coupling, get_args(Coupling))
        super().__init__(CNF(field, t0=1.0, t1=0.0, **options), dim, context_dim)
        self.coupling = coupling

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean of ‖v(t, x_t) - (x₁ - x₀)‖² at x_t = (1 - t) x₀ + t x₁, for data x₁ and noise x₀.

        One t ~ U(0, 1) and one x₀ a row, from torch's global stream. The loss is not a likelihood.
        For the best field it is the variance of x₁ - x₀ given x_t, not zero.
        """
        context = self.validate(x, context)
        x, cnf = fixed_image(self.transform, x, context)
        noise: Tensor = self.base.rsample(x)
        if self.coupling == "optimal_transport":
            noise = noise[assignment(x, noise)]
        t = torch.rand(len(x), dtype=x.dtype, device=x.device)
        inputs = (t, torch.lerp(noise, x, t[:, None]))
        v = cnf.field(*inputs) if context is None else cnf.field(*inputs, context)
        return (v - (x - noise)).square().sum(1).mean()


def assignment(x: Tensor, noise: Tensor) -> Tensor:
    """The permutation p (N,) with the least Σ ‖x_i - noise_p(i)‖², of x and noise (N, D)."""
    x, noise = x.detach().double(), noise.detach().double()
    # the squares are the same whatever p is, and so is what the mean contributes
    products = ((x - x.mean(0)) @ noise.T).cpu().numpy()
    return torch.as_tensor(linear_sum_assignment(products, maximize=True)[1], device=x.device)


@flows.register("flow_matching", uses=("hidden", "depth", "context_dim"))
def flow_matching(
    dim: int, *, net: Net = Net(), coupling: Coupling = "independent", solver: Solver = Solver()
) -> FlowMatching:
    """Flow matching: a CNF with an MLP field, trained by regression instead of likelihood.

    A training step costs one evaluation of the field, O(N (D H + ℓ H²)), whatever the density
    takes to solve; log_prob and samples cost what they cost a `cnf` of the same net, and the trace
    is exact, in closed form. The scale of the data matters to the regression: whiten it first.
    Lipman et al., Flow Matching for Generative Modeling, 2022, arXiv:2210.02747.
    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    field, options = MLPField(dim, **vars(net)), {"trace": "closed_form", "solver": solver}
    return FlowMatching(field, dim, net.context_dim, coupling=coupling, **options)
