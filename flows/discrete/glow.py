"""Glow for vectors: ActNorm, an invertible linear layer of a kind by name, an affine coupling."""

from collections.abc import Callable
from itertools import chain
from typing import Literal

from nflows.transforms import RandomPermutation
from torch import nn

import flows
from flows.discrete import nflows_compat as compat
from flows.discrete.coupling import coupling
from flows.discrete.nflows_compat import ActNorm, CompositeTransform
from flows.registry import SIZES, Sizes, check_choice

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
