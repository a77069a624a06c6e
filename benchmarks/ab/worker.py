"""The timing process of one revision: a script whose argument is the core to run on.

It runs with the revision's checkout first on its import path, and imports nothing of this package,
so that another interpreter can run it. Of ``flows`` it needs what every revision has (names, build,
initialize, log_prob, loss, sample), and takes declared versions where they exist. It writes one
line of JSON when it is ready, and then one for each line of its standard input.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

DIM, ROWS = 8, 64
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
    """Version and pace of each family and of the packages that it lies in.

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
        for package in itertools.accumulate(parents, "{}.{}".format):
            module = sys.modules[package]
            versions[family][package] = [getattr(module, n, 1) for n in ("version", "pace")]
    return versions


def main() -> None:
    """Answer until the input ends; all other output goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1:] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[1])})

    def reply(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=replies, flush=True)

    import torch

    import flows

    torch.set_num_threads(1)
    flows.names()  # imports every member
    versions = declared_versions()
    gc.collect()
    gc.freeze()
    reply({"flows": os.path.realpath(flows.__file__), "declared": versions})
    built: dict[str, Call] = {}
    for line in sys.stdin:
        reply(answer(built, **json.loads(line)))


if __name__ == "__main__":
    main()
