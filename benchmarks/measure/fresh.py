"""Calls in another process: a fresh one, in which nothing was allocated, or one that may die."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.measure.child import SAFE, command, connected, end_with_parent, ending
from flows.plugins import load_only
from flows.registry import needed
from flows.threads import keep_threads


def call(function: Callable[[Any], Any], argument: Any, timeout: float) -> Any:
    """Call a function of a module, of JSON to JSON, in a new process with this one's plug-ins.

    Raises RuntimeError, with the last line of its errors, if the process fails, and
    subprocess.TimeoutExpired if it takes longer than ``timeout`` seconds.
    """
    request = {
        "module": function.__module__,
        "function": function.__name__,
        "argument": argument,
        "plugins": needed(),
    }
    process = subprocess.run(
        command(f"{__name__}:main"),
        env={**os.environ, **SAFE},
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if process.returncode:
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the process that calls {function.__name__} afresh failed: {last}")
    return json.loads(process.stdout.splitlines()[-1])


def main() -> None:
    """Answer the one request of a fresh process."""
    request = json.load(sys.stdin)
    keep_threads()
    load_only(request["plugins"])
    function = getattr(importlib.import_module(request["module"]), request["function"])
    print(json.dumps(function(request["argument"])))


class Helper:
    """A process with this one's plug-ins that calls functions, one after another.

    Where it dies the next call has another one.
    """

    def __init__(self) -> None:
        self._pipe: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of a module there; RuntimeError, with how it ended, if the process dies.

        A ValueError of the function is raised here.
        """
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        assert self._process is not None
        try:
            self._pipe.send((function, arguments))
            result = self._pipe.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            self.close()
            raise RuntimeError(f"the process ended {ending(code)}") from None
        if isinstance(result, ValueError):
            raise result
        return result

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None and self._process is not None:
            self._process.kill()
            self._process.wait()
            self._pipe.close()
        self._pipe = self._process = None

    def _start(self) -> None:
        self._process, self._pipe = connected(f"{__name__}:serve")
        self._pipe.send(needed())


def serve(descriptor: str, lifeline: str) -> None:
    """Answer the calls of a helper until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    end_with_parent(int(lifeline))
    pipe = Connection(int(descriptor))
    load_only(pipe.recv())
    with suppress(EOFError):
        while True:
            function, arguments = pipe.recv()
            try:
                result = function(*arguments)
            except ValueError as error:
                result = error
            pipe.send(result)
