"""Free-form flows: two nets that learn to be each other's inverse, and a dense Jacobian."""

from typing import Any

import torch
from torch import Tensor, nn

import flows
from flows import linalg
from flows.bijection import Pair, fixed_image
from flows.discrete.dense import TanhMLP
from flows.flow import Flow
from flows.registry import SIZES, Sizes, check_positive


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
        inputs = _beside(x, context), step.weights(), v[:, :, None]
        change, product = step.with_jacobian(*inputs)
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
