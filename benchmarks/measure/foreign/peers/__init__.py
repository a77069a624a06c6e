"""Peers, one module each, named as the library; and what several of them need.

A peer module imports its library where it is used, and has

- ``PACKAGES``: what it cannot do without, and ``EXTRA`` of flowgauge that installs them;
- ``FAMILIES``: our flows whose counterparts it builds;
- ``build(request)``, which returns a `server.Built`. ``request`` has the ``family``, ``dim``,
  ``dtype``, ``device``, ``seed``, our flow's ``options`` and number of ``parameters``, the batch
  ``x`` (N, D), and our flow's weights as ``ours.NAME``. Calls are "log_prob" of the batch,
  "gradient" (loss and its gradient by all parameters), where there is one "adjoint" (the same by
  the adjoint ODE), and "sample" (as many as the batch has rows). Facts are the number of
  ``parameters``, whether they have the ``same_weights`` as ours, and whether the peer ``compiles``.
  A peer that is a member too (`flow.ForeignFlow`) takes any "x" for "log_prob" and "n" for
  "sample", and has "step" (gradient and an update of Adam by a rate of 0), "construct" and "fit":
  updates that go on from those before, on the rows "picks" (U, N) of "x" by "rates" (U,) with
  gradients of a norm up to "clip", with "seconds" and "loss" of each.
  Without the same weights, a call "weights" gives arrays from which another process, in float64,
  builds the same model: there the request has them as ``theirs.NAME``. The arrays of "log_prob" may
  have ``nfe``, evaluations of the field.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.measure.foreign.server import Call

WIDEST = 2**16
OURS, THEIRS = "ours.", "theirs."  # begin the names of arrays that are weights


def names() -> list[str]:
    """Return the names of all peers, installed or not."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def peer(name: str) -> ModuleType:
    """Import a peer's module; ValueError for an unknown name."""
    if name not in names():
        raise ValueError(f"unknown peer {name!r}; choose from: {', '.join(names())}")
    return import_module(f"{__name__}.{name}")


def weights(request: Mapping[str, Any], of: str) -> dict[str, np.ndarray]:
    """Return the weights of a request, `OURS` or `THEIRS`, by name and in order."""
    return {name.removeprefix(of): value for name, value in request.items() if name.startswith(of)}


def width(count: Callable[[int], int], parameters: int) -> int:
    """Return the width whose number of parameters, which rises with it, is nearest to the given.

    ValueError where no width below `WIDEST` has as many.
    """
    upper = 1
    while count(upper) < parameters:
        upper *= 2
        if upper > WIDEST:
            raise ValueError(f"no width up to {WIDEST} gives {parameters} parameters")
    lower = upper // 2
    while upper - lower > 1:
        middle = (lower + upper) // 2
        lower, upper = (middle, upper) if count(middle) < parameters else (lower, middle)
    return min({max(1, lower), upper}, key=lambda size: abs(count(size) - parameters))


def called(
    run: Callable[..., Any], arrays: Callable[[Any], Mapping[Any, Any]] = lambda result: {}
) -> Call:
    """Return a call of JAX, which ends when everything is computed."""
    import jax

    def waited(**given: Any) -> Any:
        return jax.block_until_ready(run(**given))

    return Call(waited, lambda result: {str(n): np.asarray(a) for n, a in arrays(result).items()})


def jitted(
    function: Callable[..., Any], *arguments: Any, arrays: Callable[[Any], Mapping[str, Any]]
) -> Call:
    """Return a call of a function that JAX compiles at its first run."""
    import jax

    return called(partial(jax.jit(function), *arguments), arrays)
