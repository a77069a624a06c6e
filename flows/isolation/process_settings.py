"""Settings of Python, NumPy and the system that any code may change for all that runs after it."""

from __future__ import annotations

import ctypes
import gc
import locale
import os
import random
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from flows.isolation.setting import Setting, refill

LIMITS = (resource.RLIMIT_DATA, resource.RLIMIT_AS, resource.RLIMIT_STACK, resource.RLIMIT_NOFILE)
SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
STREAMS = ("stdin", "stdout", "stderr", "excepthook")


def process_settings() -> Iterator[Setting]:
    """Yield the settings of Python, NumPy and the system."""
    yield from _numbers()
    yield from _python()
    yield from _system()


def _numbers() -> Iterator[Setting]:
    """Random streams, and how floating point behaves."""
    yield Setting("NumPy's stream", _numpy_stream, np.random.set_state, own=True)
    yield Setting("Python's stream", random.getstate, random.setstate, own=True)
    yield Setting("NumPy's errors", np.geterr, lambda value: np.seterr(**value))
    yield Setting("NumPy's print options", _numpy_print, lambda v: np.set_printoptions(**v))
    libm = ctypes.CDLL(None)
    if hasattr(libm, "fegetround"):
        yield Setting("rounding", libm.fegetround, libm.fesetround)


def _python() -> Iterator[Setting]:
    yield Setting("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit)
    yield Setting("switch interval", sys.getswitchinterval, sys.setswitchinterval)
    yield Setting("trace function", sys.gettrace, sys.settrace)
    yield Setting("profile function", sys.getprofile, sys.setprofile)
    yield Setting("trace function of threads", threading.gettrace, threading.settrace)
    yield Setting("profile function of threads", threading.getprofile, threading.setprofile)
    yield Setting("garbage collection", gc.isenabled, lambda on: (gc.disable, gc.enable)[on]())
    yield Setting("garbage thresholds", gc.get_threshold, lambda value: gc.set_threshold(*value))
    yield Setting("filters of warnings", lambda: list(warnings.filters), _set_filters, own=True)
    yield Setting("path of modules", lambda: list(sys.path), _set_path)
    yield Setting("locale", partial(locale.setlocale, locale.LC_ALL), _set_locale)
    for name in STREAMS:
        yield Setting(f"sys.{name}", partial(getattr, sys, name), partial(setattr, sys, name))


def _system() -> Iterator[Setting]:
    yield Setting("environment", lambda: dict(os.environ), partial(refill, os.environ), own=True)
    yield Setting("working folder", _folder, os.chdir)
    yield Setting("umask", _umask, os.umask)
    yield Setting("signal handlers", _handlers, _set_handlers)
    yield Setting("timers", lambda: any(map(any, map(signal.getitimer, TIMERS))), _stop_timers)
    yield Setting("limits", lambda: [resource.getrlimit(n) for n in LIMITS], _set_limits)
    if hasattr(os, "sched_getaffinity"):
        yield Setting("cores", partial(os.sched_getaffinity, 0), partial(os.sched_setaffinity, 0))
    yield Setting("priority", partial(os.getpriority, os.PRIO_PROCESS, 0), _set_priority)


def _numpy_stream() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return (name, tuple(keys), *rest)


def _numpy_print() -> dict[str, Any]:
    return {k: v for k, v in np.get_printoptions().items() if k != "override_repr"}


def _set_filters(value: list[Any]) -> None:
    warnings.resetwarnings()  # which forgets what the filters have let pass
    warnings.filters[:] = value  # type: ignore[index]  # a list, though typed as a sequence


def _set_path(value: list[str]) -> None:
    sys.path[:] = value


def _set_locale(value: str) -> None:
    locale.setlocale(locale.LC_ALL, value)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in SIGNALS}


def _set_handlers(value: dict[int, Any]) -> None:
    for number, handler in value.items():
        if signal.getsignal(number) != handler and handler is not None:
            signal.signal(number, handler)


def _stop_timers(value: object) -> None:
    for timer in TIMERS:
        signal.setitimer(timer, 0)


def _set_limits(value: Sequence[tuple[int, int]]) -> None:
    for number, limits in zip(LIMITS, value, strict=True):
        with suppress(ValueError):  # one that was lowered for good
            resource.setrlimit(number, limits)


def _set_priority(value: int) -> None:
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, value)
