"""Coupling flows: one half of the columns scales and shifts the other; and Glow's linear layers."""

from collections.abc import Callable
from functools import partial
from itertools import chain, pairwise
from typing import Literal

import torch
from nflows.transforms import RandomPermutation
from nflows.utils import create_alternating_binary_mask
from torch import Tensor, nn

import flows
from flows.discrete import nflows_compat as compat
from flows.discrete.nflows_compat import ActNorm, CompositeTransform
from flows.registry import SIZES, Sizes, check_choice


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
    return kind(create_alternating_binary_mask(dim, even), partial(Conditioner, sizes=sizes))


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


LinearName = Literal["naive", "lu", "qr", "svd", "householder", "permutation"]

# D reflections reach every rotation; an even number can start as the identity
LINEAR: dict[LinearName, Callable[[int], nn.Module]] = {
    "naive": compat.NaiveLinear,
    "lu": compat.LULinear,
    "qr": lambda dim: compat.QRLinear(dim, dim + dim % 2),
    "svd": lambda dim: compat.SVDLinear(dim, dim + dim % 2),
    "householder": lambda dim: compat.HouseholderSequence(dim, dim + dim % 2),
    "permutation": RandomPermutation,
}


def linear_layer(name: LinearName, dim: int) -> tuple[nn.Module, ...]:
    """The transforms of one linear layer; ValueError with the choices for an unknown name."""
    check_choice("linear layer", name, LINEAR)
    before = () if name in ("naive", "permutation") else (RandomPermutation(dim),)
    return *before, LINEAR[name](dim)


@flows.register("glow", uses=SIZES)
def glow(
    dim: int, *, sizes: Sizes = Sizes(layers=8), linear: LinearName = "lu"
) -> CompositeTransform:
    """Glow: ActNorm, an invertible linear layer and an affine coupling, ``layers`` times.

    The layer ``linear``, for a batch of N rows:

    ============ ============================ ============ ===============
    name         W                            to apply     log-determinant
    ============ ============================ ============ ===============
    naive        dense                        N D² + D³    D³, every pass
    lu           L U after a permutation      N D²         D
    qr           Q R after a permutation      N D²         D
    svd          U S Vᵀ after a permutation   N D²         D
    householder  D reflections                N D²         0
    permutation  a fixed permutation          N D          0
    ============ ============================ ============ ===============

    Orthogonal factors are products of D reflections, one after the other. The rest costs what
    RealNVP costs, and sampling what log_prob costs, naive W solving for its inverse. Kingma and
    Dhariwal, Glow: Generative Flow with Invertible 1x1 Convolutions, 2018, arXiv:1807.03039.
    Growth in D at fixed width: log_prob 2, sampling 2.
    """
    couplings = (coupling(compat.AffineCouplingTransform, dim, sizes) for _ in range(sizes.layers))
    steps = ((ActNorm(dim), *linear_layer(linear, dim), affine) for affine in couplings)
    return CompositeTransform(chain.from_iterable(steps))
