"""Private queries of torch about function transforms, in one place."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor


class _State(threading.local):
    recording = False


_state = _State()


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Record operators within the block, in this thread: `compiling` says so."""
    _state.recording = True
    try:
        yield
    finally:
        _state.recording = False


def compiling() -> bool:
    """Whether operators are captured, by torch.compile or by a `recording`."""
    return torch.compiler.is_compiling() or _state.recording


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """A tensor of numbers, of operators in a recording: the body of a loop has no constants."""
    if compiling():
        return torch.stack([torch.full_like(like[0], value) for value in values])
    return like.new_tensor(values)


def transforming() -> bool:
    """Whether any torch.func transform is active, or torch.compile captures operators."""
    return compiling() or bool(torch._C._are_functorch_transforms_active())


def transformed(x: Tensor) -> bool:
    """Whether x is a wrapper of a torch.func transform (vmap, grad, jvp), or of torch.compile."""
    return compiling() or bool(torch._C._functorch.is_functorch_wrapped_tensor(x))


def differentiating_forward() -> bool:
    """Whether forward-mode differentiation is active (torch.autograd.forward_ad)."""
    return torch.autograd.forward_ad._current_level >= 0


def overflowed(values: Tensor, x: Tensor, size: float) -> bool:
    """Whether a value (N,) is NaN, and its row of x (N, D) has a number beyond a size.

    Read on the CPU without an operator that is dispatched; elsewhere False.
    """
    if values.device.type != "cpu" or transformed(values):
        return False
    with torch._C._DisableTorchDispatch():
        nan = np.isnan(values.detach().float().numpy())
        return bool(nan.any() and (np.abs(x.detach().float().numpy()[nan]) > size).any())


def unfit_for_gradients(x: Tensor) -> bool:
    """Whether x comes from inference mode, and gradients are enabled now."""
    if compiling() or not torch.is_grad_enabled():
        return False
    return x.is_inference() and not torch.is_inference_mode_enabled()


def check_solvable(x: Tensor, adaptive: bool, by_adjoint: bool) -> None:
    """RuntimeError for x of a torch.func transform that a solve cannot pass through."""
    if compiling() or not transformed(x):
        return
    if by_adjoint or (adaptive and torch._C._functorch.is_batchedtensor(x)):
        raise RuntimeError(
            "torch.func goes through no adjoint, and torch.func.vmap through no adaptive steps: "
            "flow.using(solver={'method': 'rk4', 'step_size': 0.05, 'gradient': 'backprop'})"
        )
