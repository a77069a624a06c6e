"""Calls in a fresh process, in which nothing was allocated before."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.measure.child import SAFE, command
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
