"""Other libraries, each in a process of its own that times its own calls.

Two libraries in one process share its cores badly, and JAX decides on threads and precision as it
is imported. Each module here is a peer, named as its library; this one is what peers share, and
`benchmarks.measure.peers` is our end of the pipe. The process of a peer imports torch only if the
peer does. A peer imports its library where it is used, and has

- ``PACKAGES``: what it cannot do without, and ``EXTRA`` of flowgauge that installs them;
- ``FAMILIES``: our flows whose counterparts it builds;
- ``build(request)``, which returns a `Built`. ``request`` has the ``family``, ``dim``, ``dtype``,
  ``device``, ``seed``, our flow's ``options`` and number of ``parameters``, the batch ``x`` (N, D),
  our flow's weights by name, ``ours``, and the peer's own, ``theirs``, if there are any.

Calls are "log_prob" of the batch, "gradient" (loss and its gradient by all parameters), "sample"
(as many rows as the batch has), and where there is one "adjoint" (the gradient by the adjoint ODE).
The arrays of "log_prob" may have ``nfe``, evaluations of the field; a call "saved" has the
``bytes`` that its "gradient" saves for backward. Facts are the number of
``parameters``, whether they have the ``same_weights`` as ours, and whether the peer ``compiles``.

A peer that is a member of groups too takes any "x" for "log_prob" and "n" for "sample", and has
"step" (gradient and an update of Adam by a rate of 0), "construct" and "fit": updates that go on
from those before, on the rows "picks" (U, N) of "x" by "rates" (U,) with gradients of a norm up to
"clip", with "seconds" and "loss" of each. Without the same weights, a call "weights" gives arrays
from which another process, in float64, builds the same model, as ``theirs``.
"""

import gc
import pkgutil
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from importlib.util import find_spec
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.measure.process import growth, uncollected

version = 1  # raised when a change moves what a peer computes
pace = 1  # raised when it moves measured times alone

Arrays = Mapping[str, np.ndarray]
WIDEST = 2**16


@dataclass(frozen=True)
class Call:
    """Something to be timed."""

    run: Callable[..., Any]  # of options and arrays by name; returns once everything is computed
    arrays: Callable[[Any], Arrays] = lambda result: {}  # of its result, outside of the clock


@dataclass(frozen=True)
class Built:
    """A peer's model: its calls by name, and facts about it, as JSON."""

    calls: Mapping[str, Call]
    facts: Mapping[str, Any] = field(default_factory=dict)
    release: Callable[[], object] = lambda: None  # frees what calls leave behind, as gradients


def names() -> list[str]:
    """Return the names of all peers, installed or not."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def peer(name: str) -> ModuleType:
    """Import a peer's module; ValueError for an unknown name."""
    if name not in names():
        raise ValueError(f"unknown peer {name!r}; choose from: {', '.join(names())}")
    return import_module(f"{__name__}.{name}")


def lacking(peer: ModuleType) -> str:
    """Say in one line which package a peer lacks, and how to get it; empty if it has all."""
    for package in peer.PACKAGES:
        if find_spec(package) is None:
            remedy = f"pip install 'flowgauge[{peer.EXTRA}]'"
            return f"needs the package {package!r}, which is not installed: {remedy}"
    return ""


_built: list[tuple[ModuleType, Built]] = []  # in a peer's process: the module, and its model


def build(module: str, request: Mapping[str, Any]) -> None:
    peer = import_module(module)
    for package in peer.PACKAGES:
        import_module(package)
    _built[:] = [(peer, peer.build(request))]


def facts() -> dict[str, Any]:
    """Return facts of the model, its calls, and the versions of the peer's packages."""
    ((peer, built),) = _built
    versions = {package: _version(package) for package in peer.PACKAGES}
    return {"versions": versions, **built.facts, "calls": list(built.calls)}


def arrays(name: str, arguments: Mapping[str, Any]) -> Arrays:
    call = _call(name)
    gc.collect(0)
    with uncollected():
        result = call.run(**arguments)
    return call.arrays(result)


def seconds(name: str, calls: int) -> list[float]:
    """Return the seconds of each of consecutive runs of a call."""
    run, times = _call(name).run, []
    gc.collect(0)
    with uncollected():
        for _ in range(calls):
            start = perf_counter()
            _result = run()
            times.append(perf_counter() - start)
    return times


def resident(name: str) -> int:
    """Return the bytes by which a call that has run before makes the resident set grow."""
    ((_, built),) = _built
    return growth(_call(name).run, built.release)


def _call(name: str) -> Call:
    ((_, built),) = _built
    if name not in built.calls:
        raise ValueError(f"unknown call {name!r}; choose from: {', '.join(built.calls)}")
    return built.calls[name]


def _version(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return "unknown"


def width(count: Callable[[int], int], parameters: int) -> int:
    """Return the width with the nearest number of parameters; ValueError if none to `WIDEST`."""
    upper = 1
    while count(upper) < parameters:
        upper *= 2
        if upper > WIDEST:
            raise ValueError(f"no width up to {WIDEST} gives {parameters} parameters")
    least = bisect_left(range(upper), parameters, lo=upper // 2 + 1, key=count)
    return min({max(1, least - 1), least}, key=lambda size: abs(count(size) - parameters))


def called(
    run: Callable[..., Any], arrays: Callable[[Any], Mapping[Any, Any]] = lambda result: {}
) -> Call:
    """Return a call of JAX, which ends when everything is computed."""
    import jax

    def waited(**arguments: Any) -> Any:
        return jax.block_until_ready(run(**arguments))

    return Call(waited, lambda result: {str(n): np.asarray(a) for n, a in arrays(result).items()})


def jitted(
    function: Callable[..., Any], *arguments: Any, arrays: Callable[[Any], Mapping[str, Any]]
) -> Call:
    """Return a call of a function that JAX compiles at its first run."""
    import jax

    return called(partial(jax.jit(function), *arguments), arrays)
