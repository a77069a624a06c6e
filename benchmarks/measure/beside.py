"""Load beside a measurement: cores that other processes kept busy, by themselves or on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

SPIN = (  # until its input is closed, as it is with the parent
    "import os, sys, threading\n"
    "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()\n"
    "while True: pass"
)


class Beside:
    """Accounts for the machine's work from construction on."""

    def __init__(self) -> None:
        self._start, self._busy, self._own = time.monotonic(), _busy(), _own()

    def shared(self) -> dict[str, float] | None:
        """Return the mean numbers of cores that others kept busy and that a hypervisor took.

        None if the system does not tell: outside Linux, and in containers, whose processes see
        neither the machine's work nor each other's.
        """
        seconds = time.monotonic() - self._start
        if self._busy is None or (busy := _busy()) is None or seconds <= 0:
            return None
        used = busy[0] - self._busy[0] - (_own() - self._own)
        stolen = busy[1] - self._busy[1]
        return {
            "other_cores": round(max(0.0, used) / seconds, 3),
            "stolen_cores": round(max(0.0, stolen) / seconds, 3),
        }


@contextmanager
def spinning(processes: int) -> Iterator[None]:
    """Keep cores busy by so many processes of one thread, which end with this one."""
    command = [sys.executable, "-P", "-c", SPIN]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _busy() -> tuple[float, float] | None:
    """Return core-seconds of all processes since the system's start, and those stolen."""
    if not psutil.LINUX or _contained():
        return None
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system + times.irq + times.softirq
    return busy, times.steal


def _contained() -> bool:
    """Return whether this is a container, by the usual marks."""
    marks = ("/.dockerenv", "/run/.containerenv")
    return any(map(os.path.exists, marks)) or "KUBERNETES_SERVICE_HOST" in os.environ


def _own() -> float:
    """Return core-seconds of this process, its children, those alive too, and those above it.

    They are the server that has forked it, and the run.
    """
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for process in (*psutil.Process().children(), *psutil.Process().parents()[:2]):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total
