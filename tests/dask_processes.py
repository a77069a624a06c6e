"""Schedulers and workers of Dask as processes of their own, and a run's progress that acts."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import deque
from contextlib import contextmanager

from benchmarks.execution.cluster import HOST
from runs import Silent


def free_port():
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def processes(scratch):
    """Yield a function that starts Dask's commands; they are ended afterwards."""
    started = []

    def start(command, *arguments, within=()):
        words = [sys.executable, "-m", f"distributed.cli.dask_{command}", "--no-dashboard"]
        log = (scratch / f"{len(started)}-{command}.log").open("w")
        with log:
            process = subprocess.Popen([*within, *words, *arguments], stdout=log, stderr=log)
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()  # workers end with their nannies, what they measure with them
            process.wait()


def scheduler(start, address, within=()):
    """Start a scheduler at tcp://HOST:PORT."""
    host, port = address.removeprefix("tcp://").split(":")
    return start(
        "scheduler", "--host", host, "--port", port, "--dashboard-address", ":0", within=within
    )


def worker(start, address, scratch, alone=True, within=()):
    """Start a worker of one thread; ``alone`` says that it may have its host to itself."""
    resource = ("--resources", f"{HOST}=1") if alone else ()
    arguments = (address, "--nthreads", "1", "--local-directory", str(scratch), *resource)
    return start("worker", *arguments, within=within)


class Acting(Silent):
    """A progress that acts at its first calls: ``case=[None, kill]`` kills at the second case.

    ``lost`` are what it does where the scheduler is lost.
    """

    def __init__(self, **actions):
        super().__init__()
        self.actions = {name: deque(listed) for name, listed in actions.items()}
        self.reasons, self.counts = [], []

    def _act(self, name):
        action = self.actions[name].popleft() if self.actions.get(name) else None
        if action is not None:
            action()

    def task(self, task):
        self._act("task")

    def case(self, task, case, record):
        super().case(task, case, record)
        self._act("case")

    def waiting(self, reason):
        self.reasons.append(reason)
        if reason.startswith("lost"):
            self._act("lost")

    def workers(self, count):
        self.counts.append(count)
