"""The timing process of one revision: a script, given that revision's ``flows`` and a core.

It runs with the revision's checkout first on its import path, and uses nothing of this package, so
that another interpreter can run it; of ``flows`` it uses only what every revision has: names,
build, initialize, log_prob, loss, sample. It says one line of JSON at first, and then answers each
line on its standard input with one.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

DIM, ROWS = 8, 64
AHEAD = 1  # calls before those that are timed: the other process has had the caches

Call = Callable[[], object]


def call_of(family: str, operation: str) -> Call:
    """One operation of one family at its default sizes, on a batch of its own."""
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


def timed(call: Call, calls: int) -> dict[str, list[float]]:
    """Seconds of the processor and of the clock of each call, every one from torch's seed 0."""
    import torch

    processor, clock = [], []
    gc.disable()
    for index in range(AHEAD + calls):
        torch.manual_seed(0)
        start, began = time.perf_counter(), time.process_time()
        call()
        spent, passed = time.process_time() - began, time.perf_counter() - start
        if index >= AHEAD:
            processor.append(spent)
            clock.append(passed)
    gc.enable()
    gc.collect(0)  # cycles that a call leaves behind would fill the memory
    return {"processor": processor, "clock": clock}


def answer(made: dict[str, Call], family: str, operation: str, calls: int) -> dict[str, Any]:
    """The times of a benchmark, built on first use; or that it is not there, or what it raised."""
    import flows

    if family not in flows.names():
        return {"missing": True}
    name = f"{family}/{operation}"
    try:
        if name not in made:
            made[name] = call_of(family, operation)
        return timed(made[name], calls)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Answer until the input ends; whatever else prints goes to standard error."""
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
    gc.collect()
    gc.freeze()
    reply({"flows": os.path.realpath(flows.__file__)})
    made: dict[str, Call] = {}
    for line in sys.stdin:
        reply(answer(made, **json.loads(line)))


if __name__ == "__main__":
    main()
