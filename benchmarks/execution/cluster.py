"""Pools on Dask: tasks go to the workers of a scheduler, and their records into the shared folder.

The folder is the queue and the truth; a future only says that a worker has seen to a task. Whatever
is lost on the way, workers, connections or the scheduler with its memory, is submitted again unless
its record is there. No more is submitted than there are workers, so that no task waits on a worker
and is suspected where that dies.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from distributed import Client, Future, KilledWorker, wait

from benchmarks.core import store
from benchmarks.execution import repeats
from benchmarks.execution.connection import Connection, Lost, losses
from benchmarks.execution.pools import (
    GRACE,
    Begun,
    ClusterError,
    Ended,
    Event,
    Host,
    Recorded,
    Terminated,
    Workers,
)
from benchmarks.execution.process import Setup
from benchmarks.execution.recorder import Recorder
from benchmarks.execution.remote import Order, measured
from benchmarks.execution.tasks import Task, longest_first
from flows.plugins import loaded_files

HOST = "flowgauge-host"  # the resource of a worker that may have its host to itself: one a host
POLL = 1.0  # seconds between two looks at the workers
PATIENCE = 30.0  # seconds in which a worker with the resource has to come, once there are others
RETRIES = 3  # of a task that a host could not begin


@dataclass
class Cluster:
    """A pool on a Dask scheduler; with ``alone`` its tasks have their hosts to themselves."""

    connection: Connection
    setup: Setup
    alone: bool = False
    remote = True

    def measure(self, tasks: Sequence[Task], recorder: Recorder, here: Host) -> Generator[Event]:
        """Yield what happens; ``here`` is not entered: the host that measures is.

        ClusterError where the workers cannot measure.
        """
        left = {task.name: task for task in longest_first(tasks)}
        while left:
            submission = _Submission(self, self.connection.client(), recorder, left)
            try:
                yield from submission.events()
            except Lost as reason:
                self.connection.lost(reason)

    def stop(self) -> None:
        """Close the connection; what was submitted is forgotten."""
        self.connection.close()


class _Submission:
    """Tasks at one scheduler as long as it lives; those that end are taken out of ``left``."""

    def __init__(
        self, cluster: Cluster, client: Client, recorder: Recorder, left: dict[str, Task]
    ) -> None:
        self.cluster, self.client, self.recorder, self.left = cluster, client, recorder, left
        self.running: dict[Future[None], Task] = {}
        self.workers = self.room = 0  # their number, and that of tasks that they can begin
        self.without_host: float | None = None  # since when no worker has the resource

    def events(self) -> Iterator[Event]:
        """Submit what the workers have room for, until nothing is left."""
        looked = -POLL
        try:
            while self.left:
                if time.monotonic() - looked >= POLL:
                    looked = time.monotonic()
                    yield from self._looked()
                yield from self._submitted()
                self._wait(POLL, "FIRST_COMPLETED")
                for future in [future for future in self.running if future.done()]:
                    yield from self._ended(future)
        except Terminated:  # workers stop at their checkpoints where the run's claim is gone
            self.recorder.claims.release(self.recorder.claims.run)
            with suppress(Lost):
                self._wait(GRACE if self.workers else 0.0, "ALL_COMPLETED")
            raise
        finally:
            with suppress(Lost), losses():
                self.client.cancel(list(self.running))

    def _looked(self) -> Iterator[Event]:
        """Ask which workers there are; Lost where nobody answers."""
        if self.client.status != "running":
            raise Lost("the connection is closed")
        with losses():
            workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        if len(workers) != self.workers:
            self.workers = len(workers)
            yield Workers(self.workers)
        if self.cluster.alone:
            self.room = sum(HOST in worker["resources"] for worker in workers)
            self._check_hosts()
        else:
            self.room = sum(worker["nthreads"] for worker in workers)
        if not workers:
            self.cluster.connection.waiting(f"no worker at {self.cluster.connection.address}")

    def _check_hosts(self) -> None:
        """ClusterError where for long no worker may have its host to itself."""
        if self.room or not self.workers:
            self.without_host = None
            return
        self.without_host = self.without_host or time.monotonic()
        lack = f"no worker has the resource {HOST}"
        if time.monotonic() - self.without_host > PATIENCE:
            raise ClusterError(
                f"{lack}, which what is timed needs: start one worker a host with "
                f"'dask worker ADDRESS --nthreads 1 --resources {HOST}=1'"
            )
        self.cluster.connection.waiting(lack)

    def _submitted(self) -> Iterator[Event]:
        under_way = {task.name for task in self.running.values()}
        for name, task in self.left.items():
            if len(self.running) >= self.room:
                return
            if name not in under_way:
                with losses():
                    self.running[self._submit(task)] = task
                yield Begun(task)

    def _submit(self, task: Task) -> Future[None]:
        recorder = self.recorder
        before = repeats.related(task.cases, recorder.before)
        order = Order(
            task,
            recorder.folder.resolve(),
            recorder.claims.run,
            recorder.limit,
            self.cluster.setup,
            tuple(loaded_files()),
            before,
            self.cluster.alone,
            recorder.keep_weights,
        )
        options: dict[str, Any] = {"resources": {HOST: 1}} if self.cluster.alone else {}
        key = f"flowgauge-{task.name}-{uuid.uuid4().hex}"
        return self.client.submit(measured, order, key=key, retries=RETRIES, pure=False, **options)

    def _wait(self, seconds: float, until: Literal["FIRST_COMPLETED", "ALL_COMPLETED"]) -> None:
        """Wait until a task ends, or all do, but no longer than that."""
        if not self.running:
            threading.Event().wait(POLL)
            return
        with self.client.as_current(), losses(), suppress(TimeoutError):
            wait(list(self.running), timeout=seconds, return_when=until)

    def _ended(self, future: Future[None]) -> Iterator[Event]:
        """Tell of a task that a worker has seen to: its records, or that another run holds it."""
        task = self.running[future]
        if future.cancelled():
            raise Lost("it has forgotten a task")
        if future.status == "error":
            with losses():
                error = future.exception()
            if not isinstance(error, KilledWorker):
                raise ClusterError(f"a worker cannot measure: {error}") from error
            self.recorder.fail(task, f"the task's Dask workers died, each time: {error}")
        del self.running[future], self.left[task.name]
        rest = self.recorder.unmeasured(task)
        unmeasured = {case.key for case in rest.cases} if rest else set()
        for case in task.cases:
            if case.key not in unmeasured:
                yield Recorded(task, case, store.read_one(self.recorder.folder, case.key))
        yield Ended(task, held=bool(unmeasured))
