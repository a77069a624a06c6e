"""Counting operations by dispatch: FLOPs of products and factorisations, element operations.

torch's own counter knows matrix products, convolutions and attention; it sees neither LU nor
triangular solves, where the O(D³) terms are, and refuses `autograd.grad`. This mode uses its
formulas, adds those that are missing, counts element operations apart, and names every operator
that it saw and could not count. Never time under it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


def lu_flops(n: int) -> int:
    """FLOPs of an n x n LU factorisation: n(n-1)(4n+1)/6, about 2n³/3."""
    return n * (n - 1) * (4 * n + 1) // 6


def _batch(shape: torch.Size) -> int:
    return math.prod(shape[:-2])


def _lu(a: torch.Tensor, *rest: Any, **options: Any) -> int:
    return _batch(a.shape) * lu_flops(a.shape[-1])


def _inverse(a: torch.Tensor, *rest: Any, **options: Any) -> int:
    return _lu(a) + 2 * _batch(a.shape) * a.shape[-1] ** 3


def _solve(a: torch.Tensor, b: torch.Tensor, *rest: Any, **options: Any) -> int:
    columns = 1 if b.dim() == a.dim() - 1 else b.shape[-1]
    return _lu(a) + 2 * _batch(a.shape) * a.shape[-1] ** 2 * columns


def _triangular(a: torch.Tensor, b: torch.Tensor, *rest: Any, **options: Any) -> int:
    return _batch(b.shape) * a.shape[-1] ** 2 * b.shape[-1]


FORMULAS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda a, b, **_: 2 * a.shape[0] * a.shape[1],
    aten.dot: lambda a, b, **_: 2 * a.shape[0],
    aten.addmv: lambda c, a, b, **_: 2 * a.shape[0] * a.shape[1],
    aten.addbmm: lambda c, a, b, **_: 2 * a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2],
    aten.linalg_lu_factor_ex: _lu,
    aten._linalg_slogdet: _lu,
    aten._linalg_det: _lu,
    aten.linalg_inv_ex: _inverse,
    aten._linalg_solve_ex: _solve,
    aten.linalg_solve_triangular: _triangular,
}

# operators that factorise their first argument, whatever else they do
LU = frozenset(
    {
        aten.linalg_lu_factor_ex,
        aten._linalg_slogdet,
        aten._linalg_det,
        aten.linalg_inv_ex,
        aten._linalg_solve_ex,
    }
)

# operators that move or make data and compute nothing
FREE = {
    "copy_ _to_copy clone cat stack index index_put index_put_ index_put_.default _unsafe_index",
    "index_select select_backward slice_backward slice_scatter select_scatter zeros zeros_like",
    "empty empty_like empty_strided new_empty new_empty_strided new_zeros new_ones new_full ones",
    "ones_like full full_like fill_ zero_ arange eye scalar_tensor lift_fresh _local_scalar_dense",
    "rand randn randint randperm randn_like random_ uniform_ normal_ bernoulli_ view_copy",
    "_reshape_alias _unsafe_view resize_ set_ repeat linspace tril_indices triu_indices",
    "unsafe_split",
}
_FREE = frozenset(name for line in FREE for name in line.split())


class Operations(TorchDispatchMode):
    """Counts within its ``with`` block: ``flops``, ``elements`` and the ``uncounted`` operators.

    ``factorisation`` is the part of ``flops`` that is LU, the O(D³) of a dense determinant.
    ``elements`` are results of pointwise operators and inputs of reductions. Forward, backward,
    `autograd.grad`, torch.func and the adjoint's backward are all seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.factorisation = 0
        self.elements = 0
        self.uncounted: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        known = packet in FORMULAS or packet in flop_registry or torch.Tag.pointwise in func.tags
        if not known:
            with self:
                decomposed = func.decompose(*args, **kwargs)
            if decomposed is not NotImplemented:
                return decomposed
        out = func(*args, **kwargs)
        if packet in FORMULAS:
            self.flops += FORMULAS[packet](*args, **kwargs)
            self.factorisation += _lu(args[0]) if packet in LU else 0
        elif packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=out)
        elif torch.Tag.pointwise in func.tags:
            self.elements += out.numel()
        elif torch.Tag.reduction in func.tags:
            self.elements += args[0].numel()
        elif packet.__name__.startswith("_foreach"):
            self.elements += sum(tensor.numel() for tensor in args[0])
        elif not func.is_view and packet.__name__ not in _FREE:
            self.uncounted[packet.__name__] += 1
        return out
