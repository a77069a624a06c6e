"""Linear layers that mix the columns between the nonlinear ones: a choice by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from nflows.transforms import RandomPermutation
from torch import nn

from flows.discrete.nflows_compat import (
    HouseholderSequence,
    LULinear,
    NaiveLinear,
    QRLinear,
    SVDLinear,
)


def _reflections(dim: int) -> int:
    """D reflections reach every rotation; an even number can start as the identity."""
    return dim + dim % 2


LinearName = Literal["naive", "lu", "qr", "svd", "householder", "permutation"]

LINEAR: dict[LinearName, Callable[[int], tuple[nn.Module, ...]]] = {
    "naive": lambda dim: (NaiveLinear(dim),),
    "lu": lambda dim: (RandomPermutation(dim), LULinear(dim)),
    "qr": lambda dim: (RandomPermutation(dim), QRLinear(dim, _reflections(dim))),
    "svd": lambda dim: (RandomPermutation(dim), SVDLinear(dim, _reflections(dim))),
    "householder": lambda dim: (
        RandomPermutation(dim),
        HouseholderSequence(dim, _reflections(dim)),
    ),
    "permutation": lambda dim: (RandomPermutation(dim),),
}


def linear_layer(name: LinearName, dim: int) -> tuple[nn.Module, ...]:
    """The transforms of one linear layer; ValueError with the choices for an unknown name."""
    if not isinstance(name, str) or name not in LINEAR:
        raise ValueError(f"unknown linear layer {name!r}; choose from: {', '.join(LINEAR)}")
    return LINEAR[name](dim)
