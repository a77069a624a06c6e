"""Counts of operations by dispatch: FLOPs of products and factorisations, element operations.

torch's own counter covers matrix products, convolutions and attention; it has neither LU nor
triangular solves, which hold the O(D³) terms, and refuses `autograd.grad`. This mode uses its
formulas, adds the missing ones, counts element operations separately, and names every operator that
it could not count. Never time under it.

FLOPs are those of real arithmetic by the textbook algorithm, whose order LAPACK may change.
GVL: Golub and Van Loan, Matrix Computations, 4th ed., 2013.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.measure.elements import ELEMENTS, FREE, results

aten = torch.ops.aten


def lu_flops(n: int) -> int:
    """FLOPs of an n x n LU factorisation: n(n-1)(4n+1)/6, about 2n³/3."""
    return n * (n - 1) * (4 * n + 1) // 6


def cholesky_flops(n: int) -> int:
    """FLOPs of an n x n Cholesky factorisation, roots too: n(n+1)(2n+1)/6, about n³/3.

    With m rows to go: a root, m divisions, m(m+1)/2 products and differences; so a sum of squares.
    """
    return n * (n + 1) * (2 * n + 1) // 6


def reflection_flops(m: int, n: int, k: int) -> int:
    """FLOPs of k Householder reflections of an m x n matrix, each of a row and a column less.

    4mn for the first (GVL 5.1). To leading order those of R are 2n²(m - n/3) and those of all of
    Q 4(m²n - mn² + n³/3) (GVL 5.2).
    """
    return sum(4 * (m - j) * (n - j) for j in range(k))


def _batch(shape: torch.Size) -> int:
    return math.prod(shape[:-2])


def _lu(a: Tensor, *rest: Any, **options: Any) -> int:
    m, n = a.shape[-2:]  # for m = n the sum is lu_flops(n)
    return _batch(a.shape) * sum((m - j) * (1 + 2 * (n - j)) for j in range(1, min(m, n) + 1))


def _inverse(a: Tensor, *rest: Any, **options: Any) -> int:
    return _lu(a) + 2 * _batch(a.shape) * a.shape[-1] ** 3


def _solve(a: Tensor, b: Tensor, *rest: Any, out_val: Any, **options: Any) -> int:
    return _lu(a) + 2 * a.shape[-1] * int(out_val[0].numel())


def _lu_solve(lu: Tensor, *rest: Any, out_val: Tensor, **options: Any) -> int:
    return 2 * lu.shape[-1] * out_val.numel()  # two triangular solves of n² a column (GVL 3.1)


def _triangular(a: Tensor, *rest: Any, out_val: Tensor, **options: Any) -> int:
    return a.shape[-1] * out_val.numel()


def _old_triangular(b: Tensor, a: Tensor, *rest: Any, out_val: Any, **options: Any) -> int:
    return _triangular(a, out_val=out_val[0])


def _qr(a: Tensor, mode: str = "reduced", **options: Any) -> int:
    m, n = a.shape[-2:]
    k = min(m, n)
    columns = {"r": 0, "reduced": k, "complete": m}[mode]  # of Q
    q = reflection_flops(m, columns, k) if columns else 0
    return _batch(a.shape) * (reflection_flops(m, n, k) + q)


def _singular_values(a: Tensor, *rest: Any, **options: Any) -> int:
    m, n = max(a.shape[-2:]), min(a.shape[-2:])
    return _batch(a.shape) * ((12 * m * n**2 - 4 * n**3) // 3)


def _singular_vectors(a: Tensor, full_matrices: bool = False, *rest: Any, **options: Any) -> int:
    m, n = max(a.shape[-2:]), min(a.shape[-2:])
    thin, full = 14 * m * n**2 + 8 * n**3, 4 * m**2 * n + 8 * m * n**2 + 9 * n**3
    return _batch(a.shape) * (full if full_matrices else thin) - _singular_values(a)


def _cubic(a: Tensor, thirds: int) -> int:
    return _batch(a.shape) * (thirds * a.shape[-1] ** 3 // 3)


FORMULAS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda a, b, **_: 2 * a.shape[0] * a.shape[1],
    aten.dot: lambda a, b, **_: 2 * a.shape[0],
    aten.addmv: lambda c, a, b, **_: 2 * a.shape[0] * a.shape[1],
    aten.addbmm: lambda c, a, b, **_: 2 * a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2],
    aten.linalg_lu_factor_ex: _lu,
    aten.linalg_lu: _lu,
    aten._linalg_slogdet: _lu,
    aten._linalg_det: _lu,
    aten.linalg_inv_ex: _inverse,
    aten._linalg_solve_ex: _solve,
    aten.linalg_lu_solve: _lu_solve,
    aten.linalg_solve_triangular: _triangular,
    aten.triangular_solve: _old_triangular,
    aten.linalg_cholesky_ex: lambda a, *_, **__: _batch(a.shape) * cholesky_flops(a.shape[-1]),
    aten.cholesky: lambda a, *_, **__: _batch(a.shape) * cholesky_flops(a.shape[-1]),
    aten.cholesky_solve: lambda b, factor, *_, out_val, **__: _lu_solve(factor, out_val=out_val),
    # the inverse of the factor and its product with itself, n³/3 each
    aten.cholesky_inverse: lambda a, *_, **__: _cubic(a, 2),
    aten.linalg_qr: _qr,
    # values alone, to leading order: Golub and Reinsch (GVL 8.6), symmetric QR (8.3), Francis' QR
    # (7.5)
    aten._linalg_svd: _singular_values,
    aten._linalg_eigh: lambda a, *_, **__: _cubic(a, 4),
    aten.linalg_eig: lambda a, *_, **__: _cubic(a, 30),
    aten._linalg_eigvals: lambda a, *_, **__: _cubic(a, 30),
}

# index of the result with vectors, and their additional cost: 9n³ in all if symmetric, else 25n³
# for those of Schur. Under a dispatch mode torch computes them even if only values are requested
# without gradients, and drops them at once; so they count only if they live on.
VECTORS: dict[Any, tuple[int, Callable[..., int]]] = {
    aten._linalg_svd: (0, _singular_vectors),
    aten._linalg_eigh: (1, lambda a, *_, **__: _cubic(a, 27) - _cubic(a, 4)),
    aten.linalg_eig: (1, lambda a, *_, **__: _cubic(a, 45)),
}

# operators that factorise their first argument by LU, whatever else they do
LU = frozenset(
    {
        aten.linalg_lu_factor_ex,
        aten.linalg_lu,
        aten._linalg_slogdet,
        aten._linalg_det,
        aten.linalg_inv_ex,
        aten._linalg_solve_ex,
    }
)

# operators whose kernels call others, whose number depends on the values: the Taylor polynomial of
# the exponential has degree 1 to 18, with 0 to 5 products, and one product for each halving of the
# matrix (Bader, Blanes and Casas, 2019, Mathematics 7(12):1174)
COMPOSED = frozenset({aten.linalg_matrix_exp})


class Operations(TorchDispatchMode):
    """Counts within its ``with`` block: ``flops``, ``elements`` and the ``uncounted`` operators.

    ``factorisation`` is the part of ``flops`` in LU, the O(D³) of a dense determinant. ``elements``
    are results of pointwise operators, inputs of reductions, and the numbers of `ELEMENTS`.
    Forward, backward, `autograd.grad`, torch.func and the adjoint's backward are all seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.factorisation = 0
        self.elements = 0
        self.uncounted: Counter[str] = Counter()
        self._vectors: tuple[weakref.ref[Any], int] | None = None  # not yet known to live on

    def __exit__(self, *exception: Any) -> None:
        self._settle()
        super().__exit__(*exception)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self._settle()
        kwargs = kwargs or {}
        packet, name = func._overloadpacket, func._overloadpacket.__name__
        formula = FORMULAS.get(packet) or flop_registry.get(packet)
        if formula is None and torch.Tag.pointwise not in func.tags:
            with self:
                parts = _by_parts(func, args, kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
            self.factorisation += _lu(args[0]) if packet in LU else 0
            if packet in VECTORS:
                which, cost = VECTORS[packet]
                storage = weakref.ref(out[which].untyped_storage())
                self._vectors = storage, cost(*args, **kwargs) if out[which].numel() else 0
        elif torch.Tag.pointwise in func.tags:
            self.elements += results(out_val=out)
        elif torch.Tag.reduction in func.tags:
            self.elements += args[0].numel()
        elif name.startswith("_foreach"):
            self.elements += sum(tensor.numel() for tensor in args[0])
        elif name in ELEMENTS:
            self.elements += ELEMENTS[name](*args, **kwargs, out_val=out)
        elif not func.is_view and torch.Tag.inplace_view not in func.tags and name not in FREE:
            self.uncounted[name] += 1
        return out

    def _settle(self) -> None:
        if self._vectors is not None and self._vectors[0]() is not None:
            self.flops += self._vectors[1]
        self._vectors = None


def _by_parts(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute an operator by those it is composed of; NotImplemented if it is not."""
    if func._overloadpacket in COMPOSED:
        key = getattr(torch._C.DispatchKey, args[0].device.type.upper(), None)
        if key is not None and func.has_kernel_for_dispatch_key(key):
            return func._op_dk(key, *args, **kwargs)
    return func.decompose(*args, **kwargs)
