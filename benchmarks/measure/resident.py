"""The resident set: by how much a call makes a fresh process grow, all libraries included."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import torch

from benchmarks.core.case import Case
from benchmarks.measure.calls import calls
from flows.registry import load_plugin

TIMEOUT = 300.0  # seconds


def resident_bytes(case: Case, call: str) -> int:
    """Bytes by which the peak of the resident set exceeds what was there before the call.

    A new process builds the flow, makes the call once with a single row, so that the libraries are
    loaded, and then with the batch; of its allocator all counts, what is freed and kept too, in
    pages. RuntimeError with its last words where the process fails, subprocess.TimeoutExpired where
    it takes longer than `TIMEOUT`.
    """
    asked = {"case": case.model_dump(mode="json"), "call": call, "plugins": _plugins()}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure.resident"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the process that measures the resident set failed: {last}")
    return int(done.stdout.split()[-1])


def _plugins() -> list[str]:
    modules = [m for name, m in sys.modules.items() if name.startswith("flowgauge_plugin_")]
    return [str(module.__file__) for module in modules]


def _growth(case: Case, call: str) -> int:
    torch.set_num_threads(case.threads)
    calls(case.model_copy(update={"batch": 1})).works[call]()
    work = calls(case).works[call]
    before = psutil.Process().memory_info().rss
    _forget_peak()
    work()
    return max(0, _peak() - before)


def _forget_peak() -> None:
    """Let the kernel begin anew with the peak (proc(5): 5 to clear_refs)."""
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        raise RuntimeError("this system has no /proc/self/clear_refs: measure on Linux")
    peak.write_text("5")


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    for plugin in asked["plugins"]:
        load_plugin(plugin)
    print(_growth(Case.model_validate(asked["case"]), asked["call"]))
