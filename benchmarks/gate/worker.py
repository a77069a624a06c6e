"""The timing process of one revision; `ab.Worker` asks it.

It imports a revision's packages from its checkout. Of ``flows`` it needs what every revision has
(names, build, initialize, log_prob, loss, sample), and takes declared versions if they exist. Of
this package it has `benchmarks.measure.process` alone, which imports no flow.
"""

import gc
import importlib
import itertools
import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

DIM, ROWS = 8, 64
HINT = "name by --package the package to time"

_greeting: dict[str, Any] = {}


def load_task(task: dict[str, Any]) -> None:
    """Import what a task names; ImportError if that fails."""
    earlier = {*sys.modules}
    if task["core"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {task["core"]})
    import torch

    torch.set_num_threads(1)
    try:
        families = load(task)
    except (Exception, SystemExit) as error:
        raise ImportError(fault(error, task["checkout"])) from error
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None) or ""
        if name not in earlier and counterpart(file, task):
            raise ImportError(f"imported {file!r}, which is not the revision's: {HINT}")
    _greeting.update(families=families, declared=declared_versions())
    gc.collect()
    gc.freeze()


def greeting() -> dict[str, Any]:
    """Return the flows of the revision and their versions."""
    return _greeting


def visit(benchmark: str, calls: int) -> dict[str, list[float]] | None:
    """Return the seconds of calls of a benchmark; None if its family does not exist."""
    import flows

    family, _, operation = benchmark.partition("/")
    if family not in flows.names():
        return None
    return seconds_of(call_of(family, operation), calls)


@cache
def call_of(family: str, operation: str) -> Callable[[], object]:
    """Build one operation of a family at its default sizes, on a fixed batch."""
    import torch

    import flows

    torch.manual_seed(0)
    x = torch.randn(ROWS, DIM)
    flow = flows.build(family, DIM).initialize(torch.randn(256, DIM))

    def log_prob() -> None:
        with torch.no_grad():
            flow.log_prob(x)

    def gradient() -> None:
        flow.zero_grad()
        flow.loss(x).backward()

    operations = {"log_prob": log_prob, "gradient": gradient, "sample": lambda: flow.sample(ROWS)}
    return operations[operation]


def seconds_of(call: Callable[[], object], calls: int) -> dict[str, list[float]]:
    """Seconds of the processor and of the clock of each call, each from torch's seed 0."""
    import torch

    times: list[tuple[float, float]] = []
    gc.disable()
    for _ in range(1 + calls):  # the first does not count: the other process has used the caches
        torch.manual_seed(0)
        start, processor_start = time.perf_counter(), time.process_time()
        call()
        processor_seconds = time.process_time() - processor_start
        times.append((processor_seconds, time.perf_counter() - start))
    gc.enable()
    gc.collect(0)  # reference cycles of the calls
    return {"processor": [p for p, _ in times[1:]], "clock": [c for _, c in times[1:]]}


def declared_versions() -> dict[str, dict[str, list[int]]]:
    """Version and pace of each family and of the packages that it lies in, if they declare any."""
    import flows

    if not hasattr(getattr(flows, "members", None), "declared"):
        return {}
    versions: dict[str, dict[str, list[int]]] = {}
    for family in flows.names():
        versions[family] = {f"flow {family}": list(flows.members.declared(family))}
        *parents, _ = flows.members.module_of(family).split(".")
        for package in itertools.accumulate(parents, "{}.{}".format):
            if package.partition(".")[0] == "flows":
                module = sys.modules[package]
                versions[family][package] = [getattr(module, n, 1) for n in ("version", "pace")]
    return versions


def load(task: dict[str, Any]) -> list[str]:
    """Import the subject of a task; the families that it registers.

    Paths of the working tree are replaced by those of the checkout, the working folder too. Another
    package than ours is looked for after the installed flows are imported: beside it may be a
    ``flows`` of its own.
    """
    moved = [os.path.join(task["checkout"], "src"), task["checkout"]]
    moved += filter(None, [counterpart(path, task) for path in sys.path])
    sys.path[:] = [path for path in sys.path if not counterpart(path, task)]
    os.chdir(task["checkout"])
    sys.path[:0] = moved if task["ours"] else []
    import flows

    if not hasattr(flows, "names"):
        raise ImportError(f"the package flows is not flowgauge's: {HINT}")
    if task["ours"]:
        return list(flows.names())
    sys.path[:0] = moved
    if not task["modules"]:
        flows.plugins.load_only(())  # entry points are those of the working tree
    modules = [importlib.import_module(name) for name in task["modules"]]
    if task["plugin"]:
        modules.append(flows.plugins.load_plugin(task["plugin"]))
    prefixes = tuple(f"{module.__name__}." for module in modules)
    return [n for n in flows.names() if f"{flows.members.module_of(n)}.".startswith(prefixes)]


def counterpart(path: str, task: dict[str, Any]) -> str:
    """The checkout's counterpart of a path of the working tree but its environment; else ""."""
    place, root = Path(path).resolve(), task["root"]
    others = [task["checkout"], *(p for p in (sys.prefix, sys.base_prefix) if p != root)]
    if any(map(place.is_relative_to, others)) or not place.is_relative_to(root):
        return ""
    moved = task["checkout"] / place.relative_to(root)
    return str(moved) if moved.exists() else ""


def fault(error: BaseException, checkout: str) -> str:
    """An error of an import, and the last line of the checkout that it comes from."""
    cause = error.__cause__ or error  # of what a plug-in raises
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(cause.__traceback__)]
    places += [(cause.filename or "", cause.lineno)] if isinstance(cause, SyntaxError) else []
    places = [(file, line) for file, line in places if Path(file).is_relative_to(checkout)]
    where = "".join(f" ({os.path.relpath(f, checkout)}, line {n})" for f, n in places[-1:])
    text = cause.msg if isinstance(cause, SyntaxError) else cause
    hint = f": {HINT}" if isinstance(cause, ImportError) else ""
    return f"cannot import it{where}: {type(cause).__name__}: {text}{hint}"
