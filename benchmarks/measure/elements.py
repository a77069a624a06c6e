"""Element operations that torch does not tag, and operators that compute nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


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
    "glu_backward mse_loss_backward",
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
