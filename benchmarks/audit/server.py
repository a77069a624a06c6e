"""The processes of an audit: one judges members by the kit, the other runs reproductions.

The second never imports `flows`, so that what it shows is the library's own. Requests and answers
pass as objects of plain Python.
"""

from __future__ import annotations

import contextlib
import io
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.measure.process import end_with_parent

Send = Callable[[Any], None]
Answer = Callable[[Any, Send], Any]
END = "end"  # the first part of a last message


def judge(descriptor: str, lifeline: str, memory: str, *plugins: str) -> None:
    """Answer (family, dim, dtype, moved, options) by rows (name, value, bound, status, note).

    Each is sent as it comes; at the end whether the process has to be replaced.
    """
    _begin(lifeline, memory)
    import benchmarks.audit.nflows_families  # noqa: F401  # registers them
    from flows.isolation import Process
    from flows.plugins import load_only

    load_only(plugins)
    _check(("planar", 2, "float64", True, {"layers": 1}), lambda row: None)  # imports the rest
    before = Process()

    def answer(request: Any, send: Send) -> bool:
        _check(request, send)
        return bool(before.restore().lost)

    _serve(descriptor, answer)


def _check(request: Any, send: Send) -> None:
    import torch

    import flows
    from flows.conformance import contexts

    conditional = {row.name for row in contexts.rows}  # of which no library's flow here is

    def report(row: Any) -> None:
        if row.name not in conditional:
            send((row.name, row.value, row.bound, row.status, row.note))

    family, dim, dtype, moved, options = request
    dtypes = [getattr(torch, dtype)]
    options = {**flows.members[family].applicable({"context_dim": 0}), **options}
    result = flows.check(family, dim=dim, dtypes=dtypes, moved=moved, report=report, **options)
    if len(result.rows) == 1:  # it could not be built, or has another interface
        report(result.rows[0])


def reproduce(descriptor: str, lifeline: str, memory: str) -> None:
    """Answer a script's text by what it prints and how it fails, "" where it does not."""
    _begin(lifeline, memory)

    def answer(text: str, send: Send) -> tuple[str, str]:
        output, error = run(text)
        return output, "ImportError: it imports flowgauge" if "flows" in sys.modules else error

    _serve(descriptor, answer)


def run(text: str) -> tuple[str, str]:
    """What a script prints, and the error that ends it, "" if none does."""
    output, error = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(output):
            exec(compile(text, "<reproduction>", "exec"), {"__name__": "__main__"})
    except (Exception, SystemExit) as fault:
        error = f"{type(fault).__name__}: {(str(fault).strip().splitlines() or ['no message'])[0]}"
    return output.getvalue().strip(), error


def _begin(lifeline: str, memory: str) -> None:
    """End with the parent, leave Ctrl-C to it, take one thread and no more than so many bytes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(int(lifeline))
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)


def _serve(descriptor: str, answer: Answer) -> None:
    """Greet, then answer requests until the pipe is closed."""
    pipe = Connection(int(descriptor))
    pipe.send((END, None))
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        pipe.send((END, answer(request, pipe.send)))
