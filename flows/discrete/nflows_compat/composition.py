"""Compositions and permutations, without kernels that compute nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from nflows import transforms
from torch import Tensor


class CompositeTransform(transforms.CompositeTransform):
    """Parts in their order from data to noise.

    The original adds the log-determinants one by one, to zeros; here they are summed at once.
    """

    @staticmethod
    def _cascade(inputs: Tensor, funcs: Iterable[Any], context: Tensor | None) -> Any:
        ladjs = []
        for function in funcs:
            inputs, ladj = function(inputs, context)
            ladjs.append(ladj)
        return inputs, torch.stack(ladjs).sum(0) if ladjs else inputs.new_zeros(len(inputs))


class ReversePermutation(transforms.ReversePermutation):
    """Columns in reverse; the original copies them by index, and adds up its gradient by index."""

    @staticmethod
    def _permute(inputs: Tensor, permutation: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        return inputs.flip(dim), inputs.new_zeros(len(inputs))
