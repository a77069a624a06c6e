"""Growth of a fresh process's resident set by a call, libraries included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.core.case import Case
from benchmarks.measure import fresh
from benchmarks.measure.calls import calls

TIMEOUT = 300.0  # seconds


def resident_bytes(case: Case, call: str) -> int:
    """Return the bytes by which the peak of the resident set exceeds the set before the call.

    A new process builds the flow, makes the call with a single row, so that libraries are loaded,
    and then with the batch. Everything that its allocator holds counts, freed blocks included, in
    pages. Raises as `fresh.call`, with the limit `TIMEOUT`.
    """
    request = {"case": case.model_dump(mode="json"), "call": call}
    return int(fresh.call(growth, request, TIMEOUT))


def growth(request: dict[str, Any]) -> int:
    """Return the growth of this process's resident set, in bytes, by a call of a case."""
    case, call = Case.model_validate(request["case"]), request["call"]
    torch.set_num_threads(case.threads)
    calls(case.changed(batch=1)).works[call]()
    work = calls(case).works[call]
    before = psutil.Process().memory_info().rss
    _forget_peak()
    work()
    return max(0, _peak() - before)


def _forget_peak() -> None:
    """Reset the peak (proc(5): write 5 to clear_refs)."""
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        raise RuntimeError("this system has no /proc/self/clear_refs: measure on Linux")
    peak.write_text("5")


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
