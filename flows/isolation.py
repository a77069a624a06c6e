"""Undo what users' code changes in its process for all that runs after it.

A plug-in or a library may set a default dtype or an environment variable as it is imported, and a
flow as it is measured beside others. What cannot be undone, such as a replaced function, ends with
the process of its block.
"""

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """How a setting is read, and written with what was read.

    A ``silent`` one is undone without a warning: libraries change it in the course of things.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    silent: bool = False


@contextmanager
def unchanged(what: str, *, silent: bool = True) -> Iterator[None]:
    """Undo what the block does to settings, to ``silent`` ones if asked, and warn of the others."""
    values = [(setting, setting.read()) for setting in _settings() if silent or not setting.silent]
    try:
        yield
    finally:
        moved = [(setting, value) for setting, value in values if setting.read() != value]
        for setting, value in moved:
            setting.write(value)
        if names := ", ".join(setting.name for setting, _ in moved if not setting.silent):
            warnings.warn(f"{what} changes {names}: undone", stacklevel=4)


def _settings() -> Iterator[Setting]:
    """Yield the settings, in the order in which they can be written."""
    import numpy as np
    import torch
    from torch.distributions import Distribution
    from torch.nn.modules import module

    def device() -> Any:
        return getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)

    def denormals() -> bool:
        return sys.float_info.min / 2 > 0

    def numpy_stream() -> tuple[Any, ...]:
        name, keys, *rest = np.random.get_state(legacy=True)
        return (name, tuple(keys), *rest)

    def torch_stream(state: bytes) -> None:
        torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))

    yield Setting("default device", device, lambda m: torch.set_default_device(m and m.device))
    yield Setting("default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield Setting("threads", torch.get_num_threads, torch.set_num_threads)
    yield Setting("grad mode", torch.is_grad_enabled, torch.set_grad_enabled)
    yield Setting("anomaly mode", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly)
    determinism = torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    yield Setting("determinism", *determinism)
    precision = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield Setting("precision of float32", *precision)
    yield Setting("denormals", denormals, lambda value: torch.set_flush_denormal(not value))
    for owner, name in ((torch.backends.mkldnn, "enabled"), (Distribution, "_validate_args")):
        yield Setting(name.strip("_"), partial(getattr, owner, name), partial(setattr, owner, name))
    yield _table(module._global_forward_hooks, "hooks of modules")
    yield Setting("NumPy's errors", np.geterr, lambda value: np.seterr(**value))
    yield Setting("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit)
    yield _table(os.environ, "environment", silent=True)
    yield Setting("filters of warnings", lambda: list(warnings.filters), _set_filters, True)
    yield Setting("Python's stream", random.getstate, random.setstate, True)
    yield Setting("NumPy's stream", numpy_stream, np.random.set_state, True)
    yield Setting(
        "torch's stream", lambda: torch.get_rng_state().numpy().tobytes(), torch_stream, True
    )


def _table(table: Any, name: str, silent: bool = False) -> Setting:
    def refill(value: Any) -> None:
        table.clear()
        table.update(value)

    return Setting(name, lambda: dict(table), refill, silent)


def _set_filters(value: list[Any]) -> None:
    warnings.resetwarnings()  # which forgets what the filters have let pass
    warnings.filters[:] = value  # type: ignore[index]  # a list, though typed as a sequence
