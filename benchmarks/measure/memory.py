"""Memory in bytes: what autograd saves for backward, and the peak of live tensors.

Both add up storages, each once however many tensors view it. On the CPU the result is exact and
does not depend on addresses or the allocator. The call runs on one thread (`flows.linalg` takes
another path with more) and without the collector of cyclic garbage: what only a cycle holds counts
to the end of the call.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.measure.operations import VECTORS
from benchmarks.measure.process import uncollected
from flows.threads import one_thread

functorch = torch._C._functorch
lift_fresh = torch.ops.aten.lift_fresh.default


def saved_bytes(call: Callable[[], object], besides: Iterable[Tensor] = ()) -> int:
    """Return the peak of bytes that autograd's graphs hold for backward during the call.

    All graphs count until they are freed, including those of `autograd.grad`, torch.func, a
    backward pass and a solver's steps; so the adjoint of an ODE holds one evaluation. ``besides``
    are tensors that do not count, such as parameters. Not seen: attributes that a custom Function
    sets on its context instead of calling ``save_for_backward``.
    """
    saved = _Saved(besides)
    hooks = saved_tensors_hooks(saved.pack, lambda x: x.tensor if isinstance(x, _Held) else x)
    # torch.func's vjp and jacrev refuse hooks (pytorch/pytorch#122729), since those that copy would
    # cut the graph of an outer derivative; `_alias` does not
    guard = patch.object(torch.autograd.graph, "disable_saved_tensors_hooks", nullcontext)
    with steady(), guard, hooks:
        call()
    return saved.peak


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int:
    """Return the peak of bytes of tensors that the call allocates; run it once before.

    Results of operators count while they live. Not seen: memory inside a kernel (workspace of an
    LU, buffers of a convolution), of numpy and of Python. Under CUDA it is the allocator's peak
    above the bytes before, with the kernels' workspaces, in blocks of 512 bytes.
    """
    with _Live(device):  # the first use imports modules, whose frames would keep tensors alive
        torch.zeros(())
    live = _Live(device)
    with steady():
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            call()
            torch.cuda.synchronize(device)
            return int(torch.cuda.max_memory_allocated(device) - before)
        with live:
            _result = call()
    return max(live.peak, live.bytes)


@contextmanager
def steady() -> Iterator[None]:
    """Use one thread and no collector of cyclic garbage."""
    with one_thread(True), uncollected():
        yield


class _Saved:
    """Storages that graphs hold, by address: their number of holders and bytes."""

    def __init__(self, besides: Iterable[Tensor]) -> None:
        self.bytes = self.peak = 0
        self.held: dict[int, list[int]] = {}
        self.besides = {tensor.untyped_storage().data_ptr() for tensor in besides}

    def pack(self, tensor: Tensor) -> _Held | Tensor:
        """Return what autograd keeps in the tensor's place."""
        plain = tensor
        while functorch.is_functorch_wrapped_tensor(plain):
            plain = functorch.get_unwrapped(plain)
        if plain._is_zerotensor():
            return tensor
        storage = plain.untyped_storage()
        if (address := storage.data_ptr()) in self.besides:
            return _alias(tensor)
        if address not in self.held:
            self.held[address] = [0, storage.nbytes()]
            self.bytes += storage.nbytes()
            self.peak = max(self.peak, self.bytes)
        self.held[address][0] += 1
        return _Held(self, address, _alias(tensor))

    def release(self, address: int) -> None:
        self.held[address][0] -= 1
        if not self.held[address][0]:
            self.bytes -= self.held.pop(address)[1]


class _Held:
    """A saved tensor; it keeps its storage alive, and so the address unique."""

    def __init__(self, saved: _Saved, address: int, tensor: Tensor) -> None:
        self.saved, self.address, self.tensor = saved, address, tensor

    def __del__(self) -> None:
        self.saved.release(self.address)


def _alias(tensor: Tensor) -> Tensor:
    """Return the values without their node, which would hold itself through its output.

    Inside torch.func only the graph of the current level is dropped.
    """
    level = functorch.maybe_current_level()
    if level is None:
        return tensor.detach()
    if functorch.is_gradtrackingtensor(tensor) and functorch.maybe_get_level(tensor) == level:
        return functorch._wrap_for_grad(functorch.get_unwrapped(tensor), level)
    return tensor  # of an outer level, without a node of this one


class _Live(TorchDispatchMode):
    """Bytes of the live storages that operators allocated, and their peak.

    A storage that first occurs as an argument existed before; only its growth counts.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = torch.device(device).type
        self.bytes = self.peak = 0
        self.storages: dict[int, tuple[object, int, int]] = {}  # weak reference, bytes before, now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.peak = max(self.peak, self.bytes)
        if func is not lift_fresh:  # its argument is a new tensor of torch.tensor
            for tensor in _tensors((args, kwargs)):
                self.meet(tensor, new=False)
        out = func(*args, **kwargs)
        for tensor in _tensors(out):
            self.meet(tensor, new=True)
        dropped = 0
        if func._overloadpacket in VECTORS:  # counted once they are seen to live on
            dropped = sum(t.untyped_storage().nbytes() for t in out if t.dim() == args[0].dim())
        self.peak = max(self.peak, self.bytes - dropped)
        return out

    def meet(self, tensor: Tensor, new: bool) -> None:
        """Account for the storage of a tensor, or for its growth."""
        if tensor.device.type != self.device or tensor._is_zerotensor():
            return
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key not in self.storages:
            before = 0 if new else size
            self.storages[key] = (weakref.ref(storage, lambda _: self.forget(key)), before, before)
        reference, before, now = self.storages[key]
        self.storages[key] = (reference, before, size)
        self.bytes += size - now

    def forget(self, key: int) -> None:
        _, before, now = self.storages.pop(key)
        self.bytes -= now - before


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
