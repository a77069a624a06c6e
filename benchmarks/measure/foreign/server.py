"""The process of a peer: it builds what it is asked for, runs calls and times them itself."""

from __future__ import annotations

import gc
import importlib
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from time import perf_counter
from types import ModuleType
from typing import Any

from benchmarks.measure.child import end_with_parent
from benchmarks.measure.foreign import wire
from benchmarks.measure.foreign.wire import Arrays


@dataclass(frozen=True)
class Call:
    """Something to be timed: ``run`` returns once everything is computed.

    ``run`` takes the options and arrays of a request by name. ``arrays`` are those of its result,
    outside of the clock.
    """

    run: Callable[..., Any]
    arrays: Callable[[Any], Arrays] = lambda result: {}


@dataclass(frozen=True)
class Built:
    """A peer's model: facts about it, as JSON, and its calls by name."""

    calls: Mapping[str, Call]
    facts: Mapping[str, Any] = field(default_factory=dict)


def main(descriptor: str, lifeline: str, module: str) -> None:
    """Greet, then answer requests for the peer of a module until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    end_with_parent(int(lifeline))
    pipe = Connection(int(descriptor))
    try:
        peer = importlib.import_module(module)
        for package in peer.PACKAGES:
            importlib.import_module(package)
    except Exception as error:
        wire.send(pipe, {"error": _line(error)})
        return
    wire.send(pipe, {"seconds": [], "facts": {p: _version(p) for p in peer.PACKAGES}})
    calls: Mapping[str, Call] = {"build": _building(peer)}
    while True:
        try:
            request, arrays = wire.receive(pipe)
        except EOFError:
            return
        try:
            if (name := request["call"]) not in calls:
                raise ValueError(f"unknown call {name!r}; choose from: {', '.join(calls)}")
            call = calls[name]
            seconds, result = _timed(call, request["repeat"], {**request["options"], **arrays})
        except Exception as error:
            wire.send(pipe, {"error": _line(error)})
            continue
        facts = {}
        if isinstance(result, Built):
            calls = {"build": call, **result.calls}
            facts = {**result.facts, "calls": list(result.calls)}
        fetched = call.arrays(result) if request["fetch"] else {}
        wire.send(pipe, {"seconds": seconds, "facts": facts}, fetched)


def _building(peer: ModuleType) -> Call:
    return Call(lambda **request: peer.build(request))


def _timed(call: Call, repeat: int, arguments: Mapping[str, Any]) -> tuple[list[float], Any]:
    """Return the seconds of each run, and what the last one returned."""
    seconds, result = [], None
    gc.collect(0)
    gc.disable()
    try:
        for _ in range(repeat):
            start = perf_counter()
            result = call.run(**arguments)
            seconds.append(perf_counter() - start)
    finally:
        gc.enable()
    return seconds, result


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"
