"""Pools on Dask: tasks go to the workers of a scheduler, and their records into the shared folder.

The folder is the queue and the truth; a future only says that somebody has looked. Whatever is lost
on the way, workers, connections or the scheduler with its memory, is submitted again, unless its
record is there.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, Nanny, Scheduler, SpecCluster, wait
from distributed.comm import CommClosedError

from benchmarks.core import store
from benchmarks.core.record import Record
from benchmarks.execution import host
from benchmarks.execution.claims import Claims
from benchmarks.execution.pools import Begun, Ended, Event, Host, Recorded, attend
from benchmarks.execution.process import Setup
from benchmarks.execution.recorder import Recorder
from benchmarks.execution.tasks import Task
from benchmarks.execution.worker import Worker
from flows.registry import load_plugin, loaded_plugins

HOST = "flowgauge-host"  # the resource of a worker that may have its host to itself: one a host
LOST = (OSError, TimeoutError, CommClosedError, asyncio.CancelledError)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")
POLL = 1.0  # seconds between two looks at what is running
CONFIG: dict[str, Any] = {
    # a worker's measuring process is a child of its own, which daemons may not have
    "distributed.worker.daemon": False,
    # the threads of a measurement are the suite's, and its heap is not the nanny's
    "distributed.nanny.pre-spawn-environ": {},
    # tasks that only waited on a worker that died are not to blame
    "distributed.scheduler.allowed-failures": 10,
    # a measurement may hold the interpreter's lock, and with it the heartbeat
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.connect": "30s",
}


class Connection:
    """A client of a scheduler, made anew after every loss."""

    def __init__(self, address: str, waiting: Callable[[str], object]) -> None:
        self.address = address
        self.waiting = waiting
        self._client: Client | None = None

    def client(self) -> Client:
        """The client; it waits until there is a scheduler with a worker."""
        while self._client is None:
            try:
                self._client = Client(self.address, timeout=10, set_as_default=False)
            except LOST as error:
                self.waiting(f"no scheduler at {self.address} ({type(error).__name__})")
                threading.Event().wait(POLL)
        return self._client

    def check(self) -> None:
        """ConnectionError where the scheduler is gone."""
        if self._client is None or self._client.status != "running":
            raise ConnectionError("the connection is closed")

    def lost(self, error: BaseException) -> None:
        """Let go of the client, and say so."""
        self.waiting(f"lost the scheduler at {self.address}: {error}")
        self.close()

    def close(self) -> None:
        """Close the client, whatever the scheduler does."""
        if self._client is not None:
            with suppress(*LOST):
                self._client.close(timeout=5)
        self._client = None


@dataclass
class Cluster:
    """A pool on a Dask scheduler; with ``alone`` its tasks have their hosts to themselves."""

    connection: Connection
    setup: Setup
    alone: bool = False
    remote = True

    def measure(self, tasks: Sequence[Task], recorder: Recorder, here: Host) -> Generator[Event]:
        """Yield what happens; ``here`` is not entered: the host that measures is."""
        left = {task.name: task for task in tasks}
        while left:
            try:
                yield from self._submitted(left, recorder)
            except LOST as error:
                self.connection.lost(error)

    def stop(self) -> None:
        """Close the connection; what was submitted is forgotten."""
        self.connection.close()

    def _submitted(self, left: dict[str, Task], recorder: Recorder) -> Iterator[Event]:
        """Submit all tasks that are left, and take them away as they end."""
        client = self.connection.client()
        futures = {self._submit(client, task, recorder): task for task in left.values()}
        begun: set[str] = set()
        try:
            while futures:
                with suppress(TimeoutError):
                    wait(list(futures), timeout=POLL, return_when="FIRST_COMPLETED")
                yield from self._begun(client, futures, begun)
                for future in [future for future in futures if future.done()]:
                    task = futures.pop(future)
                    yield from self._ended(future, task, recorder)
                    del left[task.name]
                self.connection.check()
        finally:
            with suppress(*LOST):
                client.cancel(list(futures))

    def _submit(self, client: Client, task: Task, recorder: Recorder) -> Future:
        return client.submit(
            measured,
            task,
            recorder.folder.resolve(),
            recorder.limit,
            self.setup,
            loaded_plugins(),
            {case.key: recorder.before.get(case.key) for case in task.cases},
            self.alone,
            key=f"{task.name}-{uuid.uuid4().hex}",
            resources={HOST: 1} if self.alone else None,
            retries=3,
            pure=False,
        )

    def _begun(
        self, client: Client, futures: Mapping[Future, Task], begun: set[str]
    ) -> Iterator[Event]:
        """Tell of tasks that a worker has begun since the last look."""
        running = {key for keys in client.processing().values() for key in keys}
        for future, task in futures.items():
            if future.key in running and task.name not in begun:
                begun.add(task.name)
                yield Begun(task)

    def _ended(self, future: Future, task: Task, recorder: Recorder) -> Iterator[Event]:
        """Tell of a task that is over: its records, read from the folder, or that it was held."""
        if future.status == "finished":
            if future.result() is None:
                yield Ended(task, held=True)
                return
        elif future.cancelled():
            raise ConnectionError("the scheduler has forgotten a task")
        else:
            recorder.fail(task, f"the cluster gave up: {future.exception()!r}")
        for case in task.cases:
            with suppress(KeyError, ValueError):
                yield Recorded(task, case, store.read_one(recorder.folder, case.key))
        yield Ended(task)


_local = threading.local()  # the worker of each of a Dask worker's threads


def measured(
    task: Task,
    folder: Path,
    limit: float,
    setup: Setup,
    plugins: Sequence[str],
    before: Mapping[str, Record | None],
    alone: bool,
) -> list[str] | None:
    """Measure a task on a Dask worker: the keys of its cases, or None if another run holds it."""
    for plugin in plugins:
        load_plugin(plugin)
    for name in THREADS:  # the nanny's, which a child would take for its own
        os.environ.pop(name, None)
    events: list[Event] = []
    with (host.alone if alone else host.beside)(), Claims(folder) as claims:
        recorder = Recorder(folder, limit, claims, {k: r for k, r in before.items() if r})
        attend(_worker(setup), task, recorder, events.append)
    held = any(isinstance(event, Ended) and event.held for event in events)
    return None if held else [case.key for case in task.cases]


def _worker(setup: Setup) -> Worker:
    """The measuring process of this thread; another one for another setup."""
    worker: Worker | None = getattr(_local, "worker", None)
    if worker is None or worker.setup != setup:
        if worker is not None:
            worker.stop()
        worker = _local.worker = Worker(setup)
    return worker


@contextmanager
def connection(scheduler: str, jobs: int, waiting: Callable[[str], object]) -> Iterator[Connection]:
    """A connection to a scheduler by its address, or to one that is started: local or slurm."""
    started = {"local": _local_cluster, "slurm": _slurm_cluster}.get(scheduler)
    with dask.config.set(CONFIG), ExitStack() as stack:
        address = stack.enter_context(started(jobs)).scheduler_address if started else scheduler
        connected = Connection(address, waiting)
        stack.callback(connected.close)
        yield connected


def _local_cluster(jobs: int) -> SpecCluster:
    """So many workers on this machine, each a process; one may have the host to itself."""
    workers = {
        number: {
            "cls": Nanny,
            "options": {"nthreads": 1, "resources": {HOST: 1} if number == 0 else {}},
        }
        for number in range(jobs)
    }
    options = {"dashboard": False, "port": 0, "host": "127.0.0.1"}
    return SpecCluster(
        workers=workers, scheduler={"cls": Scheduler, "options": options}, silence_logs=40
    )


def _slurm_cluster(jobs: int) -> SpecCluster:
    """Workers that SLURM starts as jobs, by dask-jobqueue's configuration (jobqueue.slurm)."""
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        processes=1,
        worker_extra_args=["--nthreads", "1", "--resources", f"{HOST}=1"],
        job_script_prologue=["export DASK_DISTRIBUTED__WORKER__DAEMON=False"],
    )
    cluster.scale(jobs=jobs)  # `adapt` would cancel jobs that are idle
    return cluster
