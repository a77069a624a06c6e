"""The timing process of one revision: a script whose argument is its task, `subject.Subject.task`.

It imports a revision's packages from its checkout, and nothing of this package, so that another
interpreter can run it. Of ``flows`` it needs what every revision has (names, build, initialize,
log_prob, loss, sample), and takes declared versions where they exist. It writes one line of JSON
when it is ready, and then one for each line of its standard input.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

DIM, ROWS = 8, 64
HINT = "if it is not flowgauge's, name by --package the one to time"
WARM_UP = 1  # untimed calls of a visit: the other process has used the caches

Call = Callable[[], object]


def call_of(family: str, operation: str) -> Call:
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

    operations: dict[str, Call] = {
        "log_prob": log_prob,
        "gradient": gradient,
        "sample": lambda: flow.sample(ROWS),
    }
    return operations[operation]


def time_calls(call: Call, calls: int) -> dict[str, list[float]]:
    """Seconds of the processor and of the clock of each call, each from torch's seed 0."""
    import torch

    processor, clock = [], []
    gc.disable()
    for index in range(WARM_UP + calls):
        torch.manual_seed(0)
        start, processor_start = time.perf_counter(), time.process_time()
        call()
        processor_seconds = time.process_time() - processor_start
        seconds = time.perf_counter() - start
        if index >= WARM_UP:
            processor.append(processor_seconds)
            clock.append(seconds)
    gc.enable()
    gc.collect(0)  # reference cycles of the calls
    return {"processor": processor, "clock": clock}


def answer(built: dict[str, Call], family: str, operation: str, calls: int) -> dict[str, Any]:
    """Time a benchmark, built on first use; or report that it is missing or what it raised."""
    import flows

    if family not in flows.names():
        return {"missing": True}
    name = f"{family}/{operation}"
    try:
        if name not in built:
            built[name] = call_of(family, operation)
        return time_calls(built[name], calls)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def declared_versions() -> dict[str, dict[str, list[int]]]:
    """Version and pace of each family and of the packages of ours that it lies in.

    Empty for a revision whose families declare none.
    """
    import flows

    members = getattr(flows, "members", None)
    if members is None or not hasattr(members, "declared"):
        return {}
    versions: dict[str, dict[str, list[int]]] = {}
    for family in flows.names():
        versions[family] = {f"flow {family}": list(members.declared(family))}
        *parents, _ = members.module_of(family).split(".")
        ours = parents if parents[:1] == ["flows"] else []
        for package in itertools.accumulate(ours, "{}.{}".format):
            module = sys.modules[package]
            versions[family][package] = [getattr(module, n, 1) for n in ("version", "pace")]
    return versions


def load(task: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Import the subject of a task; the families that it registers, and why which module does not.

    A package of others has its folder first on the path only once the installed flows are there:
    beside it may be a ``flows`` that is no library of flows.
    """
    places = [(path, counterpart(path, task)) for path in sys.path]
    first = [task["source"]] if task["source"] else []
    sys.path[:] = [*(first if task["own"] else []), *(p for p, moved in places if not moved)]
    try:
        import flows
    except Exception as error:
        raise SystemExit(f"{described(error, task['checkout'])}: {HINT}") from error
    if not hasattr(flows, "names"):
        raise SystemExit(f"the package flows is another's: {HINT}")
    if task["own"]:
        return list(flows.names()), {}
    sys.path[:] = [*first, *filter(None, (moved for _, moved in places)), *sys.path]
    if not task["package"]:  # entry points are those of the working tree
        flows.plugins.load_only(())
    packages = filter(None, [*task["modules"], task["package"]])
    imports = {name: partial(importlib.import_module, name) for name in packages}
    if task["plugin"]:
        from flows.plugins import load_plugin

        plugin = os.path.join(task["checkout"], task["plugin"])
        imports[task["plugin"]] = partial(load_plugin, plugin)
    modules, faults = set(), {}
    for name, import_module in imports.items():
        try:
            modules.add(import_module().__name__)
        except (Exception, SystemExit) as error:
            faults[name] = described(error, task["checkout"])
    of = flows.members.module_of
    names = [n for n in flows.names() if any(f"{of(n)}.".startswith(f"{m}.") for m in modules)]
    return names, faults


def described(error: BaseException, checkout: str) -> str:
    """An error of an import, and the line of the checkout that it comes from."""
    cause = error.__cause__ or error  # of what a plug-in raises
    frames: list[Any] = [(f.filename, f.lineno) for f in traceback.extract_tb(cause.__traceback__)]
    frames += [(cause.filename, cause.lineno)] if isinstance(cause, SyntaxError) else []
    own = [(os.path.relpath(f, checkout), line) for f, line in frames if _within(f, checkout)]
    place = f" ({own[-1][0]}, line {own[-1][1]})" if own else ""
    hint = ": name its package by --package" if "relative import" in str(cause) else ""
    text = cause.msg if isinstance(cause, SyntaxError) else cause  # which says the line again
    return f"cannot be imported{place}: {type(cause).__name__}: {text}{hint}"


def stray(task: dict[str, Any]) -> str:
    """A file of a module that the working tree has in place of the revision; empty if none is."""
    files = [getattr(module, "__file__", None) for module in [*sys.modules.values()]]
    return next((file for file in files if file and counterpart(file, task)), "")


def counterpart(path: str, task: dict[str, Any]) -> str:
    """The counterpart of a path of the working tree; empty if there is none.

    An environment in the tree is not the revision's.
    """
    path, root = os.path.realpath(path), task["root"]
    roots = [task["checkout"], *(p for p in (sys.prefix, sys.base_prefix) if p != root)]
    if any(_within(path, inner) for inner in roots) or not _within(path, root):
        return ""
    moved = os.path.join(task["checkout"], os.path.relpath(path, root))
    return moved if os.path.exists(moved) else ""


def _within(path: str, folder: str) -> bool:
    return os.path.isabs(path) and os.path.commonpath([path, folder]) == folder


def main() -> None:
    """Answer until the input ends; all other output goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    task = json.loads(sys.argv[1])
    if task["core"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {task["core"]})

    def reply(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=replies, flush=True)

    import torch

    torch.set_num_threads(1)
    families, faults = load(task)
    greeting = {"families": families, "declared": declared_versions(), "stray": stray(task)}
    greeting["faults"] = faults
    gc.collect()
    gc.freeze()
    reply(greeting)
    built: dict[str, Call] = {}
    for line in sys.stdin:
        reply(answer(built, **json.loads(line)))


if __name__ == "__main__":
    main()
