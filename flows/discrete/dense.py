"""The general normalizing flow: a dense Jacobian and its determinant by LU."""

import math
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flows
from flows import linalg
from flows.bijection import Pair, concrete
from flows.discrete.nflows_compat import ActNorm, CompositeTransform

LIPSCHITZ = 0.9  # bound on the Lipschitz constant of g


class TanhMLP(nn.Module):
    """g: R^D -> R^D with ``depth`` hidden tanh layers, and its Jacobian by the chain rule.

    ``weights()`` are the matrices in use, which the methods take. Columns of a context may stand
    behind those of x, (N, D + C); no derivative is for them.
    """

    def __init__(self, dim: int, hidden: int, depth: int, context_dim: int = 0) -> None:
        super().__init__()
        widths = [dim + context_dim] + [hidden] * depth + [dim]
        self.layers: Any = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(widths))

    def weights(self) -> list[Tensor]:
        """The weight of each layer."""
        return [layer.weight for layer in self.layers]

    def forward(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        """(N, D + C) -> (N, D)."""
        for layer, weight in zip(self.layers[:-1], weights, strict=False):
            x = torch.tanh(F.linear(x, weight, layer.bias))
        return F.linear(x, weights[-1], self.layers[-1].bias)

    def with_jacobian(
        self, x: Tensor, weights: list[Tensor], directions: Tensor | None = None
    ) -> Pair:
        """g(x) (N, D) and its full Jacobian (N, D, D), by the chain of its layers.

        With ``directions`` (N, D, M) the product of the Jacobian with these, (N, D, M).
        """
        jacobian = weights[0]
        if directions is not None:
            jacobian = jacobian[:, : len(weights[-1])] @ directions
        for layer, weight, following in zip(self.layers[:-1], weights, weights[1:], strict=False):
            x = torch.tanh(F.linear(x, weight, layer.bias))
            jacobian = following @ ((1 - x * x)[:, :, None] * jacobian)
        return F.linear(x, weights[-1], self.layers[-1].bias), jacobian


class ContractiveMLP(TanhMLP):
    """g whose Lipschitz constant is at most 0.9.

    tanh is 1-Lipschitz, so the product of the layers' spectral norms bounds that of g. Each
    weight is divided by its exact 2-norm (by singular values; a power iteration would come from
    below and guarantee nothing) wherever that exceeds its share of the bound.
    """

    def weights(self) -> list[Tensor]:
        """The weights in use, each of 2-norm at most its share of the bound."""
        raw, share = super().weights(), LIPSCHITZ ** (1 / len(self.layers))
        norms = [linalg.widened(partial(torch.linalg.matrix_norm, ord=2), w) for w in raw]
        return [w * (share / n.clamp(min=share)) for w, n in zip(raw, norms, strict=True)]


class DenseResidual(nn.Module):
    """x -> x + g(x) with the log-determinant of the full D x D Jacobian of every sample.

    Forming the Jacobian costs O(N D² H), its determinant by LU O(N D³). The inverse is the fixed
    point of x = z - g(x), which contracts by 0.9 or better a round, and then one Newton step: it
    squares the remaining error and carries the first derivative of the exact inverse. Where
    gradients are enabled a step by the same matrix follows, which moves nothing and carries the
    second. Behrmann et al., Invertible Residual Networks, 2019, arXiv:1811.00995.
    """

    iterative = True

    def __init__(self, dim: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.g = ContractiveMLP(dim, hidden, depth)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, jacobian = self._with_jacobian(x, self.g.weights())
        return y, linalg.logabsdet(jacobian)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        weights = self.g.weights()
        start = self._fixed_point(z.detach(), [weight.detach() for weight in weights])
        y, jacobian = self._with_jacobian(start, weights)
        solve = linalg.inv(jacobian.detach())
        x = start + (solve @ (z - y)[:, :, None])[:, :, 0]
        if torch.is_grad_enabled():
            residual = z - x - self.g(x, weights)
            x = x + (solve @ (residual - residual.detach())[:, :, None])[:, :, 0]
        return x, -linalg.logabsdet(self._with_jacobian(x, weights)[1])

    def _with_jacobian(self, x: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        g, jacobian = self.g.with_jacobian(x, weights)
        return x + g, jacobian + torch.eye(x.shape[1], dtype=x.dtype, device=x.device)

    @torch.no_grad()
    def _fixed_point(self, z: Tensor, weights: list[Tensor]) -> Tensor:
        tolerance = torch.finfo(z.dtype).eps ** 0.75  # the Newton step squares what remains
        x = z
        for _ in range(math.ceil(math.log(tolerance) / math.log(LIPSCHITZ))):
            previous, x = x, z - self.g(x, weights)
            if concrete(x) and bool(((x - previous).abs() <= tolerance * (1 + x.abs())).all()):
                break
        return x


@flows.register("dense", uses=("hidden", "depth", "layers"))
def dense(dim: int, *, hidden: int = 64, depth: int = 2, layers: int = 4) -> CompositeTransform:
    """The general flow: ActNorm and x + g(x), log-determinant by LU of the full Jacobian.

    log_prob costs O(N L (D² H + D³)), a sample some dozens of evaluations of g beside that. It
    is here to measure the cost D³ a sample, which practical families avoid.
    Growth in D at fixed width: log_prob 3, sampling 3.
    """
    residual = (DenseResidual(dim, hidden, depth) for _ in range(layers))
    return CompositeTransform([part for block in residual for part in (ActNorm(dim), block)])
