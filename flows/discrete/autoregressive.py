"""Autoregressive flows: each column is mapped given those before it, by a masked net (MADE)."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from nflows.transforms import InverseTransform
from torch import nn

import flows
from flows.discrete import nflows_compat as compat
from flows.discrete.nflows_compat import ActNorm, CompositeTransform
from flows.registry import SIZES, Sizes


def made_options(sizes: Sizes) -> dict[str, Any]:
    """What nflows calls the sizes of a MADE with ``depth`` hidden layers."""
    context = sizes.context_dim or None
    return {"hidden": sizes.hidden, "num_blocks": sizes.depth - 1, "context_features": context}


@flows.register("maf", uses=SIZES)
def maf(dim: int, *, sizes: Sizes = Sizes()) -> CompositeTransform:
    """MAF: masked affine autoregressive maps, ActNorm and reversed columns between them.

    z_i = x_i s(x_<i) + t(x_<i). log_prob is one pass of the net, O(N L (D H + ℓ H²)), sampling D
    of them, one a column; the log-determinant O(N L D). Papamakarios et al., Masked
    Autoregressive Flow for Density Estimation, 2017, arXiv:1705.07057.
    Growth in D at fixed width: log_prob 1, sampling 2.
    """
    return mixed(dim, _affine(dim, sizes))


@flows.register("iaf", uses=SIZES)
def iaf(dim: int, *, sizes: Sizes = Sizes()) -> CompositeTransform:
    """IAF: the inverse of MAF's map, so that sampling is one pass and log_prob D of them.

    The affine map runs from noise to data: x_i = z_i s(z_<i) + t(z_<i).
    Sampling costs O(N L (D H + ℓ H²)), log_prob D times that; the log-determinant O(N L D).
    Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow, 2016,
    arXiv:1606.04934.
    Growth in D at fixed width: log_prob 2, sampling 1.
    """
    return mixed(dim, [InverseTransform(step) for step in _affine(dim, sizes)])


def _affine(dim: int, sizes: Sizes) -> list[nn.Module]:
    options = made_options(sizes)
    return [compat.MaskedAffineAutoregressiveTransform(dim, **options) for _ in range(sizes.layers)]


def mixed(dim: int, steps: Sequence[nn.Module]) -> CompositeTransform:
    """Steps with an ActNorm and reversed columns before each."""
    triples = ((ActNorm(dim), compat.ReversePermutation(dim), step) for step in steps)
    return CompositeTransform(chain.from_iterable(triples))
