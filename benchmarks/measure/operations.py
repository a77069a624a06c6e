"""Counts by dispatch: FLOPs of products and factorisations, element operations, operators.

torch's own counter covers matrix products, convolutions and attention; it has neither LU nor
triangular solves, which hold the O(D³) terms, and refuses `autograd.grad`. `Operations` uses its
formulas, adds the missing ones, counts element operations separately, and names every operator that
it could not count. Never time under it.

FLOPs are those of real arithmetic by the textbook algorithm, whose order LAPACK may change.
GVL: Golub and Van Loan, Matrix Computations, 4th ed., 2013.
"""

import math
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from nflows.transforms.linear import Linear
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils.flop_counter import flop_registry

import flows
from benchmarks.core.case import Case
from benchmarks.core.study import Result, Study
from flows.budget import trainable
from flows.continuous import CNF
from flows.continuous.point import Point
from flows.continuous.solve import Solver

aten = torch.ops.aten
Work = Callable[[], object]
CACHED = type(cache(len))
OPERATORS, ARRAYS = "operators", "array_figures"  # their names among the notes of a record


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


def _batch(a: Tensor) -> int:
    return math.prod(a.shape[:-2])


def _lu(a: Tensor, *rest: Any, **options: Any) -> int:
    m, n = a.shape[-2:]  # for m = n the sum is n(n-1)(4n+1)/6, about 2n³/3
    return _batch(a) * sum((m - j) * (1 + 2 * (n - j)) for j in range(1, min(m, n) + 1))


def _inverse(a: Tensor, *rest: Any, **options: Any) -> int:
    return _lu(a) + 2 * _batch(a) * a.shape[-1] ** 3


def _solve(a: Tensor, b: Tensor, *rest: Any, out_val: Any, **options: Any) -> int:
    return _lu(a) + 2 * a.shape[-1] * int(out_val[0].numel())


def _lu_solve(lu: Tensor, *rest: Any, out_val: Tensor, **options: Any) -> int:
    return 2 * lu.shape[-1] * out_val.numel()  # two triangular solves of n² a column (GVL 3.1)


def _triangular(a: Tensor, *rest: Any, out_val: Tensor, **options: Any) -> int:
    return a.shape[-1] * out_val.numel()


def _qr(a: Tensor, mode: str = "reduced", **options: Any) -> int:
    m, n = a.shape[-2:]
    k = min(m, n)
    columns = {"r": 0, "reduced": k, "complete": m}[mode]  # of Q
    q = reflection_flops(m, columns, k) if columns else 0
    return _batch(a) * (reflection_flops(m, n, k) + q)


def _singular_values(a: Tensor, *rest: Any, **options: Any) -> int:
    m, n = max(a.shape[-2:]), min(a.shape[-2:])
    return _batch(a) * ((12 * m * n**2 - 4 * n**3) // 3)


def _singular_vectors(a: Tensor, full_matrices: bool = False, *rest: Any, **options: Any) -> int:
    m, n = max(a.shape[-2:]), min(a.shape[-2:])
    thin, full = 14 * m * n**2 + 8 * n**3, 4 * m**2 * n + 8 * m * n**2 + 9 * n**3
    return _batch(a) * (full if full_matrices else thin) - _singular_values(a)


def _cubic(a: Tensor, thirds: int) -> int:
    return _batch(a) * (thirds * a.shape[-1] ** 3 // 3)


FORMULAS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda a, b, **_: 2 * a.shape[0] * a.shape[1],
    aten.dot: lambda a, b, **_: 2 * a.shape[0],
    aten.addmv: lambda c, a, b, **_: 2 * a.shape[0] * a.shape[1],
    aten.addbmm: lambda c, a, b, **_: 2 * a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2],
    # torch has formulas for the kernels of GPUs alone
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        aten._scaled_dot_product_flash_attention
    ],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        aten._scaled_dot_product_flash_attention_backward
    ],
    aten.linalg_lu_factor_ex: _lu,
    aten.linalg_lu: _lu,
    aten._linalg_slogdet: _lu,
    aten._linalg_det: _lu,
    aten.linalg_inv_ex: _inverse,
    aten._linalg_solve_ex: _solve,
    aten.linalg_lu_solve: _lu_solve,
    aten.linalg_solve_triangular: _triangular,
    aten.triangular_solve: lambda b, a, *_, out_val, **__: _triangular(a, out_val=out_val[0]),
    aten.linalg_cholesky_ex: lambda a, *_, **__: _batch(a) * cholesky_flops(a.shape[-1]),
    aten.cholesky: lambda a, *_, **__: _batch(a) * cholesky_flops(a.shape[-1]),
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
LU = frozenset(packet for packet, cost in FORMULAS.items() if cost in (_lu, _inverse, _solve))

# operators whose kernels call others, whose number depends on the values: the Taylor polynomial of
# the exponential has degree 1 to 18, with 0 to 5 products, and one product for each halving of the
# matrix (Bader, Blanes and Casas, 2019, Mathematics 7(12):1174)
COMPOSED = frozenset({aten.linalg_matrix_exp})


def results(*rest: Any, out_val: Any, **options: Any) -> int:
    """Return the number of elements of an operator's (first) result."""
    return int((out_val[0] if isinstance(out_val, (tuple, list)) else out_val).numel())


def _sorted(a: Tensor, dim: int = -1, *rest: Any, **options: Any) -> int:
    return a.numel() * (a.shape[dim] - 1).bit_length() if a.numel() and a.dim() else 0


def _names(*lines: str) -> frozenset[str]:
    return frozenset(name for line in lines for name in line.split())


# operators with one element operation a result, which torch does not tag as pointwise
_RESULT = _names(
    "_softmax _log_softmax _softmax_backward_data _log_softmax_backward_data cumsum cumprod",
    "logcumsumexp cummax cummin gather masked_fill_ softplus_backward elu_backward",
    "leaky_relu_backward hardtanh_backward log_sigmoid_forward log_sigmoid_backward glu",
    "glu_backward mse_loss_backward native_layer_norm native_layer_norm_backward",
)

# operations of an operator by its name, from its arguments and its result ``out_val``
ELEMENTS: dict[str, Callable[..., int]] = {
    **dict.fromkeys(_RESULT, results),
    # one per element of the input
    **dict.fromkeys(_names("nonzero unique_consecutive mse_loss"), lambda a, *_, **__: a.numel()),
    **dict.fromkeys(
        _names("scatter scatter_ scatter_add scatter_add_ scatter_reduce"),
        lambda a, dim, index, *_, **__: index.numel(),
    ),
    "index_add": lambda a, dim, index, source, **_: source.numel(),
    # comparisons: of a merge sort n log2 n, of a binary search log2(n + 1), both rounded up
    "sort": _sorted,
    "_unique2": lambda a, *_, **__: _sorted(a.reshape(-1)),
    "searchsorted": lambda a, *_, out_val, **__: out_val.numel() * a.shape[-1].bit_length(),
    "bucketize": lambda x, a, *_, out_val, **__: out_val.numel() * a.shape[-1].bit_length(),
}

# operators that move, create or inspect data and compute nothing
FREE = _names(
    "copy_ _to_copy clone cat stack index index_put index_put_ index_put_.default _unsafe_index",
    "index_select select_backward slice_backward slice_scatter select_scatter zeros zeros_like",
    "empty empty_like empty_strided new_empty new_empty_strided new_zeros new_ones new_full ones",
    "ones_like full full_like fill_ zero_ arange eye scalar_tensor lift_fresh _local_scalar_dense",
    "rand randn randint randperm randn_like random_ uniform_ normal_ bernoulli_ view_copy",
    "_reshape_alias _unsafe_view resize_ set_ repeat linspace tril_indices triu_indices",
    "unsafe_split flip roll constant_pad_nd index_fill tril triu tril_ triu_ lu_unpack diag_embed",
    "diagonal_backward diagonal_scatter _linalg_check_errors",
    "_record_function_enter_new _record_function_exit",  # marks of an optimiser for the profiler
    # forward mode: zeros that are never formed, and (add, mul of prims) the shapes of their sums
    "is_same_size _has_same_storage_numel _new_zeros_with_same_feature_meta _efficientzerotensor",
    "add mul",
)


class Operations(TorchDispatchMode):
    """Counts within its ``with`` block: ``flops``, ``elements`` and the ``uncounted`` operators.

    ``factorisation`` is the part of ``flops`` in LU, the O(D³) of a dense determinant. ``elements``
    are results of pointwise operators, inputs of reductions, and the numbers of `ELEMENTS`.
    Forward, backward, `autograd.grad`, torch.func and the adjoint's backward are all seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.factorisation = self.elements = 0
        self.uncounted: Counter[str] = Counter()
        self._vectors: tuple[weakref.ref[Any], int] | None = None  # not yet known to live on

    def __exit__(self, *exception: Any) -> None:
        self._settle()
        super().__exit__(*exception)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
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


def parts(flow: flows.Flow, batch: Tensor) -> dict[str, Work]:
    """Return works of the parts that the flow has, on x (N, D), without gradients.

    "field" and "rate" (field and trace) are one evaluation of every ODE; what a solve keeps of the
    weights between evaluations is computed at the first call. "linear" is one pass through every
    invertible linear layer, with its log-determinant.
    """
    layers = [module for module in flow.modules() if isinstance(module, Linear)]
    odes = [module for module in flow.modules() if isinstance(module, CNF)]
    generator, evaluations = torch.Generator().manual_seed(0), list[tuple[CNF, Any, Any]]()
    t: Any = torch.full((), 0.5).to(batch) if odes else None
    for ode in odes:
        field: Any = ode.field
        prepared = field.for_solve() if hasattr(field, "for_solve") else field
        evaluations.append((ode, prepared, ode.trace.draw(field, batch, generator)))

    @torch.no_grad()
    def field_alone() -> None:
        for _, field, _ in evaluations:
            field(t, batch)

    @torch.no_grad()
    def rate() -> None:
        for ode, field, probes in evaluations:
            ode.trace.rate(Point(field, t, batch, None), probes)

    @torch.no_grad()
    def linear() -> None:
        for layer in layers:
            layer(batch)

    works: dict[str, Work] = {"field": field_alone, "rate": rate} if odes else {}
    return works | ({"linear": linear} if layers else {})


def counted(works: dict[str, Work]) -> dict[str, float]:
    """Count FLOPs of each work; "precomputation_flops" are those of the first call only."""
    flops: dict[str, list[int]] = {}
    for name, work in works.items():
        for _ in range(2):
            with Operations() as operations:
                work()
            flops.setdefault(name, []).append(operations.flops)
    metrics: dict[str, float] = {f"{name}_flops": again for name, (_, again) in flops.items()}
    if "rate" in flops:
        metrics["precomputation_flops"] = flops["rate"][0] - flops["rate"][1]
    return metrics


def count_shapes(case: Case) -> dict[str, float]:
    """Count FLOPs of log_prob of a batch and of its parts on torch's meta device, without data.

    A flow without an ODE runs as a whole. With an ODE, one evaluation runs and is multiplied by
    their number, which with fixed steps does not depend on D and is counted at D = 2; the number of
    adaptive steps depends on data, so only the parts are counted then.
    """
    dtype = getattr(torch, case.dtype)
    flow = flows.build(case.flow, case.dim, **case.options).to("meta", dtype).eval()
    batch = torch.empty(case.batch, case.dim, dtype=dtype, device="meta")
    metrics: dict[str, float] = {"parameters": trainable(flow), **counted(parts(flow, batch))}
    if "rate_flops" not in metrics:
        with torch.no_grad(), Operations() as operations:
            flow.log_prob(batch)
        metrics["log_prob_determinant_flops"] = operations.factorisation
        return {**metrics, "log_prob_flops": operations.flops, "log_prob_nfe": 0}
    if not Solver.of(case.options.get("solver", {})).fixed:
        return metrics
    small = flows.build(case.flow, 2, **case.options)
    with torch.no_grad(), flows.count_nfe(small) as nfe:
        small.log_prob(torch.zeros(1, 2))
    once, each = metrics["precomputation_flops"], metrics["rate_flops"]  # of all solves
    counts = {"log_prob_nfe": nfe.forward, "log_prob_determinant_flops": 0}
    return {**metrics, "log_prob_flops": once + each * nfe.forward / len(nfe.solves), **counts}


class Dispatched(TorchDispatchMode):
    """Counts the operators that are dispatched within its ``with`` block, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def counting() -> bool:
    """Return whether operators are counted, so that nothing is timed."""
    return any(isinstance(mode, Dispatched) for mode in _get_current_dispatch_mode_stack())


def dispatched(study: Study, cases: Sequence[Case]) -> Iterator[tuple[str, Result]]:
    """Measure each case alone; yield key and result, with operators and arrays in the notes.

    Initial weights and noise are drawn in the case's type: in float32 other processors round
    otherwise.
    """
    before = torch.get_default_dtype()
    for case in cases:
        forget()
        torch.set_default_dtype(getattr(torch, case.dtype))
        try:
            with Dispatched() as mode:
                results = list(study.measure([case]))
        finally:
            torch.set_default_dtype(before)
        for key, result in results:
            notes = {OPERATORS: dict(sorted(mode.counts.items())), ARRAYS: summary(result.arrays)}
            yield key, replace(result, notes={**result.notes, **notes})


def forget() -> None:
    """Empty the caches of our functions, so that what they compute is computed in each case."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("flows", "benchmarks"):
            for value in list(vars(module).values()):
                if isinstance(value, CACHED):
                    value.cache_clear()


def summary(arrays: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Return the size of each array without seconds, and mean and RMS of its finite values."""
    figures = {}
    for name, array in sorted((n, a) for n, a in arrays.items() if not n.endswith("seconds")):
        values = np.asarray(array, dtype=float).ravel()
        finite = values[np.isfinite(values)]
        figures[name] = [float(values.size), 0.0, 0.0]
        if len(finite):
            figures[name][1:] = [float(finite.mean()), float(np.sqrt(np.mean(finite**2)))]
    return figures
