"""Flows with a dense Jacobian, its determinant by LU: the general one, and the free-form flow."""

import math
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flows
from flows import linalg
from flows.bijection import Pair, concrete, fixed_image
from flows.discrete.nflows_compat import ActNorm, CompositeTransform
from flows.flow import Flow
from flows.registry import SIZES, Sizes, check_positive

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


class FreeForm(nn.Module):
    """An encoder f, data to noise, and a decoder g that is trained to be its inverse.

    Both are ``layers`` residual steps x + h(x), the identity at the start. Each direction has the
    exact log-determinant of its own net, by LU of the D x D Jacobian of each step: O(N L (D² H +
    D³)). But nothing makes f injective, or g its inverse: the density is as right as they are.
    """

    inexact = True

    def __init__(self, dim: int, sizes: Sizes) -> None:
        super().__init__()
        inner, layers = (sizes.hidden, sizes.depth, sizes.context_dim), sizes.layers
        nets = [TanhMLP(dim, *inner) for _ in range(2 * layers)]
        for net in nets:
            nn.init.zeros_(net.layers[-1].weight)
            nn.init.zeros_(net.layers[-1].bias)
        self.encoder, self.decoder = nn.ModuleList(nets[:layers]), nn.ModuleList(nets[layers:])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Pair:
        return _with_determinant(self.encoder, x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Pair:
        return _with_determinant(self.decoder, z, context)

    def to_noise(self, x: Tensor, context: Tensor | None) -> Tensor:
        return _image(self.encoder, x, context)

    def to_data(self, z: Tensor, context: Tensor | None) -> Tensor:
        return _image(self.decoder, z, context)


def _image(steps: Any, x: Tensor, context: Tensor | None) -> Tensor:
    for step in steps:
        x = x + step(_beside(x, context), step.weights())
    return x


def _with_determinant(steps: Any, x: Tensor, context: Tensor | None) -> Pair:
    identity, ladj = torch.eye(x.shape[1], dtype=x.dtype, device=x.device), x.new_zeros(len(x))
    for step in steps:
        directions = None if context is None else identity
        change, jacobian = step.with_jacobian(_beside(x, context), step.weights(), directions)
        x, ladj = x + change, ladj + linalg.logabsdet(jacobian + identity)
    return x, ladj


def _with_product(steps: Any, x: Tensor, context: Tensor | None, v: Tensor) -> Pair:
    """The image of x (N, D), and the product of the Jacobian with v, both (N, D)."""
    for step in steps:
        change, product = step.with_jacobian(_beside(x, context), step.weights(), v[:, :, None])
        x, v = x + change, v + product[:, :, 0]
    return x, v


def _beside(x: Tensor, context: Tensor | None) -> Tensor:
    return x if context is None else torch.cat([x, context], 1)


class FreeFormFlow(Flow):
    """The density of an encoder, with a loss that needs no determinant.

    The loss is -log p(z) - vᵀ f'(x) sg[g'(z) v] + β ‖x - g(z)‖² for z = f(x) and a random v with
    E[v vᵀ] = I, where sg stops the gradient: that of the second term is an estimate of the gradient
    of log |det f'(x)| wherever g is the inverse of f. ``weight`` is β. Bijections prepended must be
    fixed, as for `flow_matching`.
    """

    objective = "free form"

    def __init__(self, transform: FreeForm, dim: int, context_dim: int, weight: float) -> None:
        check_positive(weight=weight)
        super().__init__(transform, dim, context_dim)
        self.weight = weight

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean of the loss of each row, with one v a row from torch's global stream, a scalar."""
        context = self.validate(x, context)
        x, last = fixed_image(self.transform, x, context)
        v = torch.randn_like(x)
        v = v * (x.shape[1] ** 0.5 / v.norm(dim=1, keepdim=True))
        z = _image(last.encoder, x, context)
        again, product = _with_product(last.decoder, z, context, v)
        _, estimate = _with_product(last.encoder, x, context, product.detach())
        distance = (x - again).square().sum(1)
        loss: Tensor = self.weight * distance - self.base.log_prob(z) - (v * estimate).sum(1)
        return loss.mean()


@flows.register("free_form", uses=SIZES)
def free_form(dim: int, *, sizes: Sizes = Sizes(layers=2), weight: float = 10.0) -> FreeFormFlow:
    """Free-form flow: two unconstrained nets, each trained to be the other's inverse.

    A training step costs some passes of both, O(N L (D H + ℓ H²)), and no determinant; log_prob
    takes the determinant of the encoder's dense Jacobian, O(N L (D² H + D³)), a sample one pass of
    the decoder. Samples and density agree as far as the nets are inverse to each other, for which
    ``weight`` of the reconstruction trades likelihood: the density is approximate. Whiten data
    first. Draxler et al., Free-form Flows: Make Any Architecture a Normalizing Flow, 2024,
    arXiv:2310.16624.
    Growth in D at fixed width: log_prob 3, sampling 1.
    """
    return FreeFormFlow(FreeForm(dim, sizes), dim, sizes.context_dim, weight)
