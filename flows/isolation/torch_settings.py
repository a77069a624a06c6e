"""Settings of torch that any code may change for all that runs after it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch._C import _len_torch_dispatch_stack, _len_torch_function_stack
from torch.distributions import Distribution
from torch.nn.modules import module as nn_module
from torch.nn.utils import parametrize
from torch.optim import optimizer
from torch.utils import _python_dispatch as dispatch

from flows.isolation.setting import Setting, refill

ATTRIBUTES: tuple[tuple[Any, str], ...] = (
    (torch, "backends.mkldnn.enabled"),
    (torch, "backends.mkldnn.deterministic"),
    (torch, "backends.cudnn.enabled"),
    (torch, "backends.cudnn.benchmark"),
    (torch, "backends.cudnn.deterministic"),
    (torch, "backends.cudnn.allow_tf32"),
    (torch, "backends.cuda.matmul.allow_tf32"),
    (torch, "backends.opt_einsum.enabled"),
    (torch, "utils.deterministic.fill_uninitialized_memory"),
    (torch, "default_generator"),
    (Distribution, "_validate_args"),
    (nn_module, "_global_is_full_backward_hook"),
    (parametrize, "_cache_enabled"),
)
HOOKS = {n: v for n, v in vars(nn_module).items() if n.startswith("_global_") and v is not None}
TABLES: dict[str, Any] = {
    **HOOKS,
    "hooks before optimisers": optimizer._global_optimizer_pre_hooks,
    "hooks after optimisers": optimizer._global_optimizer_post_hooks,
    "torch's print options": vars(torch._tensor_str.PRINT_OPTS),
}


def torch_settings() -> Iterator[Setting]:
    """Yield the settings of torch, in the order in which they can be written."""
    yield Setting("default device", _device_context, lambda _: torch.set_default_device(None))
    yield Setting("function modes", _len_torch_function_stack, _pop_function_modes)
    yield Setting("dispatch modes", _len_torch_dispatch_stack, _pop_dispatch_modes)
    yield Setting("default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield Setting("threads", torch.get_num_threads, torch.set_num_threads)
    yield Setting("threads between operators", torch.get_num_interop_threads, _impossible)
    yield Setting("inference mode", torch.is_inference_mode_enabled, _impossible)
    yield Setting("grad mode", torch.is_grad_enabled, torch.set_grad_enabled)
    yield Setting("anomaly mode", _anomaly, lambda v: torch.autograd.set_detect_anomaly(*v))
    yield Setting("determinism", _determinism, _set_determinism)
    precision = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield Setting("precision of float32", *precision)
    yield Setting("autocast", _autocast, _set_autocast)
    threading = torch._C._is_multithreading_enabled, torch._C._set_multithreading_enabled
    yield Setting("threads of autograd", *threading)
    yield Setting("hooks of saved tensors", _saved_hooks, _pop_saved_hooks)
    yield Setting("warnings of torch", torch.is_warn_always_enabled, torch.set_warn_always)
    yield Setting("denormals", _denormals, lambda kept: torch.set_flush_denormal(not kept))
    yield Setting("torch's stream", _stream, _set_stream, own=True)
    for owner, path in ATTRIBUTES:
        yield _attribute(owner, path)
    for name, table in TABLES.items():
        yield Setting(name, partial(dict, table), partial(refill, table))


def _impossible(value: object) -> None:
    """Do nothing: torch cannot set it back."""


def _attribute(owner: Any, path: str) -> Setting:
    holder, _, name = path.rpartition(".")
    place = attrgetter(holder)(owner) if holder else owner
    return Setting(path, lambda: getattr(place, name), lambda value: setattr(place, name, value))


def _device_context() -> Any:
    return getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)


def _pop_function_modes(length: int) -> None:
    while _len_torch_function_stack() > length:
        torch._C._pop_torch_function_stack()


def _pop_dispatch_modes(length: int) -> None:
    while _len_torch_dispatch_stack() > length:
        dispatch._pop_mode()


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _determinism() -> tuple[bool, bool]:
    on = torch.are_deterministic_algorithms_enabled()
    return on, torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _autocast() -> tuple[Any, ...]:
    devices = ("cpu", "cuda")
    states = [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in devices]
    return (*states, torch.is_autocast_cache_enabled())


def _set_autocast(value: tuple[Any, ...]) -> None:
    *states, cache = value
    for device, enabled, dtype in states:
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)
    torch.set_autocast_cache_enabled(cache)


def _saved_hooks() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _pop_saved_hooks(value: object) -> None:
    while _saved_hooks() is not None:
        torch._C._autograd._pop_saved_tensors_default_hooks()


def _denormals() -> bool:
    """Return whether the least normal number halved is not zero."""
    return bool((torch.tensor(sys.float_info.min, dtype=torch.float64, device="cpu") / 2).item())


def _stream() -> bytes:
    return torch.get_rng_state().numpy().tobytes()


def _set_stream(value: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(value), dtype=torch.uint8))
