"""Coupling flows: one half of the columns scales and shifts the other."""

from collections.abc import Callable
from itertools import chain, pairwise

import torch
from nflows.utils import create_alternating_binary_mask
from torch import Tensor, nn

import flows
from flows.discrete import nflows_compat as compat
from flows.discrete.nflows_compat import ActNorm, CompositeTransform
from flows.registry import SIZES, Sizes


class Conditioner(nn.Sequential):
    """An MLP with ``depth`` hidden layers, (N, inputs) and (N, context_dim) -> (N, outputs).

    Its last layer starts at zero, so that a coupling starts as the identity.
    """

    def __init__(self, inputs: int, outputs: int, sizes: Sizes) -> None:
        widths = [inputs + sizes.context_dim, *sizes.widths]
        layers = chain.from_iterable((nn.Linear(n, m), nn.ReLU()) for n, m in pairwise(widths))
        last = nn.Linear(widths[-1], outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(*layers, last)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, inputs), (N, context_dim) -> (N, outputs)."""
        return super().forward(x if context is None else torch.cat([x, context], 1))


def coupling(
    kind: Callable[..., nn.Module], dim: int, sizes: Sizes, even: bool = True
) -> nn.Module:
    """A coupling over alternating columns; ``even`` ones are transformed, or odd ones.

    ``kind`` is a class with nflows' arguments (mask, net factory), ``sizes`` are those of
    its net. ValueError below two columns, where there is no other half to condition on.
    """
    if dim < 2:
        raise ValueError(
            f"a coupling needs at least two columns, got dim={dim}: try 'maf' or 'cnf'"
        )
    return kind(
        create_alternating_binary_mask(dim, even),
        lambda inputs, outputs: Conditioner(inputs, outputs, sizes),
    )


@flows.register("nice", uses=SIZES)
def nice(dim: int, *, sizes: Sizes = Sizes(layers=8)) -> CompositeTransform:
    """NICE: additive couplings over alternating halves, and one diagonal scaling at the end.

    z_a = x_a, z_b = x_b + t(x_a), whose log-determinant is 0; the scaling, an ActNorm, has all of
    it. log_prob and sampling cost O(N L (D H + ℓ H²)) alike, the log-determinant O(D). Dinh et
    al., NICE: Non-linear Independent Components Estimation, 2014, arXiv:1410.8516.
    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    kind = compat.AdditiveCouplingTransform
    couplings = (coupling(kind, dim, sizes, even=k % 2 == 0) for k in range(sizes.layers))
    return CompositeTransform([*couplings, ActNorm(dim)])


@flows.register("realnvp", uses=SIZES)
def realnvp(dim: int, *, sizes: Sizes = Sizes(layers=8)) -> CompositeTransform:
    """RealNVP: affine couplings over alternating halves, ActNorm before each.

    z_a = x_a, z_b = x_b ⊙ s(x_a) + t(x_a). log_prob and sampling cost O(N L (D H + ℓ H²)) alike,
    the log-determinant O(N L D). Dinh et al., Density estimation using Real NVP, 2017,
    arXiv:1605.08803; ActNorm in place of batch normalisation, so that rows stay independent.
    Growth in D at fixed width: log_prob 1, sampling 1.
    """
    kind, layers = compat.AffineCouplingTransform, range(sizes.layers)
    steps = ((ActNorm(dim), coupling(kind, dim, sizes, even=k % 2 == 0)) for k in layers)
    return CompositeTransform(chain.from_iterable(steps))
