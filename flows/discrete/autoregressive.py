"""Autoregressive flows: each column is mapped given those before it, by a masked net (MADE)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from nflows.transforms import InverseTransform
from torch import nn

import flows
from flows.discrete.nflows_compat import (
    ActNorm,
    CompositeTransform,
    MaskedAffineAutoregressiveTransform,
    ReversePermutation,
)


def made_options(hidden: int, depth: int, context_dim: int) -> dict[str, Any]:
    """What nflows calls the sizes of a MADE with ``depth`` hidden layers."""
    return {"hidden": hidden, "num_blocks": depth - 1, "context_features": context_dim or None}


@flows.register("maf", uses=("hidden", "depth", "layers", "context_dim"))
def maf(
    dim: int, *, hidden: int = 64, depth: int = 2, layers: int = 5, context_dim: int = 0
) -> CompositeTransform:
    """MAF: masked affine autoregressive maps, ActNorm and reversed columns between them.

    z_i = x_i s(x_<i) + t(x_<i). log_prob is one pass of the net, O(N L (D H + ℓ H²)), sampling D
    of them, one a column; the log-determinant O(N L D). Papamakarios et al., Masked
    Autoregressive Flow for Density Estimation, 2017, arXiv:1705.07057.

    Growth in D at fixed width: log_prob 1, sampling 2.
    """
    steps = _affine(dim, hidden, depth, layers, context_dim)
    return mixed(dim, steps)


@flows.register("iaf", uses=("hidden", "depth", "layers", "context_dim"))
def iaf(
    dim: int, *, hidden: int = 64, depth: int = 2, layers: int = 5, context_dim: int = 0
) -> CompositeTransform:
    """IAF: the inverse of MAF's map, so that sampling is one pass and log_prob D of them.

    The affine map runs from noise to data: x_i = z_i s(z_<i) + t(z_<i).
    Sampling costs O(N L (D H + ℓ H²)), log_prob D times that; the log-determinant O(N L D).
    Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow, 2016,
    arXiv:1606.04934.

    Growth in D at fixed width: log_prob 2, sampling 1.
    """
    steps = _affine(dim, hidden, depth, layers, context_dim)
    return mixed(dim, [InverseTransform(step) for step in steps])


def _affine(dim: int, hidden: int, depth: int, layers: int, context_dim: int) -> list[nn.Module]:
    sizes = made_options(hidden, depth, context_dim)
    return [MaskedAffineAutoregressiveTransform(dim, **sizes) for _ in range(layers)]


def mixed(dim: int, steps: Sequence[nn.Module]) -> CompositeTransform:
    """Steps with an ActNorm and reversed columns before each."""
    triples = ((ActNorm(dim), ReversePermutation(dim), step) for step in steps)
    return CompositeTransform(chain.from_iterable(triples))
