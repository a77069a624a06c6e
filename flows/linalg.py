"""Reliable LU of batches of matrices, and factorisations in low precision.

torch's batched LU on the CPU (MKL, more than one thread) returns wrong numbers for matrices of
some 160 rows and more on some processors, without an error, and on others never returns where
OMP_NUM_THREADS is less than the threads that it is given. Here small matrices go through the
batched routine with one thread, large ones one at a time with all threads, and the backward passes
do the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from flows.functorch import compiling, transformed
from flows.threads import one_thread

_LARGE = 128  # rows from which one matrix at a time with all threads is the faster way


def widened(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Call function(*tensors), for bfloat16 and float16 in float32 with the result rounded back.

    LAPACK has no factorisation or triangular solve in these dtypes.
    """
    dtype = tensors[0].dtype
    if dtype not in (torch.bfloat16, torch.float16):
        return function(*tensors)
    return function(*(tensor.float() for tensor in tensors)).to(dtype)


def _each(function: Callable[[Tensor], Tensor], a: Tensor) -> Tensor:
    """function(a), for a batch a of square matrices (..., n, n)."""
    n, batch = a.shape[-1], a.shape[:-2]
    many = torch.get_num_threads() > 1 and a.device.type == "cpu" and a.numel() > 0
    hidden = transformed(a)  # a batch of vmap's has no axis
    if many and n >= _LARGE and a.dim() > 2 and not hidden:
        return torch.stack([function(m) for m in a.reshape(-1, n, n)]).unflatten(0, batch)
    with one_thread(many and (hidden or a.dim() > 2)):
        return function(a)


class _Inverse(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        return _each(torch.linalg.inv, a)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        return -inverse.mT @ gradient @ inverse.mT


class _LogAbsDet(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        return _each(lambda matrix: torch.linalg.slogdet(matrix)[1], a)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        return gradient[..., None, None] * inv(a).mT


def _operator(name: str, function: Callable[[Tensor], Tensor]) -> Any:
    """An operator that a compiler takes whole: else it would call torch's batched routine."""
    return torch.library.custom_op(
        f"flowgauge::{name}", function, mutates_args=(), schema="(Tensor a) -> Tensor"
    )


_inv = _operator("inv", lambda a: _Inverse.forward(a).contiguous())
_inv.register_fake(lambda a: a.new_empty(a.shape))
_logabsdet = _operator("logabsdet", _LogAbsDet.forward)
_logabsdet.register_fake(lambda a: a.new_empty(a.shape[:-2]))
_inv.register_autograd(_Inverse.backward, setup_context=_Inverse.setup_context)
_logabsdet.register_autograd(
    lambda ctx, gradient: gradient[..., None, None] * _inv(ctx.saved_tensors[0]).mT,
    setup_context=_LogAbsDet.setup_context,
)


def inv(a: Tensor) -> Tensor:
    """Inverses of square matrices: (..., n, n) -> (..., n, n), O(n³) each."""
    return widened(_inv if compiling() else _Inverse.apply, a)


def logabsdet(a: Tensor) -> Tensor:
    """Log absolute determinants by LU: (..., n, n) -> (...), O(n³) each; -inf where singular."""
    return widened(_logabsdet if compiling() else _LogAbsDet.apply, a)
