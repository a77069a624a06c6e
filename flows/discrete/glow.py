"""Glow for vectors: ActNorm, an invertible linear layer, an affine coupling."""

from __future__ import annotations

from itertools import chain

from nflows.transforms import CompositeTransform, RandomPermutation
from torch import nn

import flows
from flows.discrete.coupling import affine_coupling
from flows.discrete.nflows_compat import ActNorm, LULinear, NaiveLinear

LINEAR = {
    "lu": lambda dim: (RandomPermutation(dim), LULinear(dim)),
    "naive": lambda dim: (NaiveLinear(dim),),
}


@flows.register("glow", uses=("hidden", "depth", "layers", "context_dim"))
def glow(
    dim: int,
    *,
    hidden: int = 64,
    depth: int = 2,
    layers: int = 8,
    context_dim: int = 0,
    linear: str = "lu",
) -> CompositeTransform:
    """Glow: ActNorm, an invertible linear layer and an affine coupling, ``layers`` times.

    ``linear="lu"`` is a fixed permutation and W = L U: O(N D²) to apply, O(D) for the
    log-determinant; ``"naive"`` a dense W whose determinant costs O(D³) a pass, for the batch as
    a whole. The rest costs what RealNVP costs. Kingma and Dhariwal, Glow: Generative Flow with
    Invertible 1x1 Convolutions, 2018, arXiv:1807.03039.
    """
    if linear not in LINEAR:
        raise ValueError(f"glow has no linear layer {linear!r}; choose from: {', '.join(LINEAR)}")

    def step() -> tuple[nn.Module, ...]:
        coupling = affine_coupling(
            dim, even=True, hidden=hidden, depth=depth, context_dim=context_dim
        )
        return ActNorm(dim), *LINEAR[linear](dim), coupling

    return CompositeTransform(chain.from_iterable(step() for _ in range(layers)))
