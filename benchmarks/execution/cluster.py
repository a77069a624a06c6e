"""Workers of Dask: tasks go to the workers of a scheduler, and their results come back.

What is lost on the way, by a worker, a connection or the scheduler with its memory, is submitted
again. No more is submitted than there are workers, so that no task waits on a worker and is
suspected where that dies. A worker measures by a process of its own kind (`process.Worker`), which
has no variable that Dask's nanny exports, and ends with the Dask worker.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import dask
from distributed import (
    Client,
    Event,
    Future,
    KilledWorker,
    Nanny,
    Scheduler,
    SpecCluster,
    get_client,
    get_worker,
    wait,
)
from distributed.comm.addressing import get_address_host_port
from distributed.utils import silence_logging_cmgr

from benchmarks.core import locks
from benchmarks.core.study import Result
from benchmarks.execution.plan import Task, longest_first
from benchmarks.execution.process import Cancelled, Measured, Setup, Worker
from benchmarks.execution.recorder import (
    GRACE,
    ClusterError,
    Order,
    Progress,
    Recorder,
    Terminated,
)
from benchmarks.measure.machine import memory_bytes
from benchmarks.measure.process import SAFE
from flows.plugins import load_plugin, loaded_files

HOST = "flowgauge-host"  # the resource of a worker that may have its host to itself: one a host
POLL = 1.0  # seconds between two looks at the workers, and two attempts to connect
CONNECT = 10.0  # seconds in which a scheduler has to answer
PATIENCE = 30.0  # seconds in which a worker with the resource has to come, once there are others
RETRIES = 3  # of a task that a host could not begin
NANNY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")
CONFIG: dict[str, Any] = {  # of the schedulers that are started here, and of their workers
    # no numbers of threads, which this process would have too
    "distributed.nanny.pre-spawn-environ": {"DASK_LOGGING__DISTRIBUTED": "error", **SAFE},
    # a job that ends by its clock is not the task's fault, which goes on from its checkpoint
    "distributed.scheduler.allowed-failures": 10,
}


class Lost(Exception):
    """The scheduler does not answer, or has forgotten what was submitted."""


@contextmanager
def losses() -> Iterator[None]:
    """Turn what Dask raises where the scheduler is gone into `Lost`."""
    try:
        yield
    except OSError as error:
        raise Lost(str(error) or type(error).__name__) from error
    except (asyncio.CancelledError, concurrent.futures.CancelledError) as error:
        raise Lost("the connection is closed") from error


class Connection:
    """A client of a scheduler, made anew after every loss."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.over = f"flowgauge-{uuid.uuid4().hex}"  # the event at which workers stop for this run
        try:
            get_address_host_port(address)
            self._client: Client | None = self._connected()
        except (Lost, ValueError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {address!r} ({error}): start one with "
                "'dask scheduler', or take --scheduler local"
            ) from error

    def client(self) -> Client:
        """The client; after a loss it waits for a scheduler."""
        while self._client is None:
            with suppress(Lost):
                self._client = self._connected()
                break
            threading.Event().wait(POLL)
        return self._client

    def end(self) -> None:
        """Let workers stop at their next checkpoints."""
        if self._client is not None:
            with suppress(Lost), losses():
                Event(self.over, client=self._client).set()

    def close(self) -> None:
        """Close the client, whatever the scheduler does."""
        if self._client is not None:
            with suppress(Lost), losses():
                self._client.close(timeout=5)
        self._client = None

    def _connected(self) -> Client:
        with losses():
            return Client(self.address, timeout=CONNECT, set_as_default=False)


@dataclass
class Cluster:
    """The workers of a scheduler; with ``alone`` tasks have their hosts to themselves."""

    connection: Connection
    setup: Setup
    alone: bool = False

    def measure(self, tasks: Sequence[Task], recorder: Recorder, progress: Progress) -> None:
        """Measure tasks, as `Engine` has it; ClusterError where the workers cannot."""
        left = {task.key: task for task in longest_first(tasks)}
        while left:
            try:
                _Submission(self, self.connection.client(), recorder, progress, left).measure()
            except Lost as reason:
                where = self.connection.address
                progress.waiting(f"lost the scheduler at {where} ({reason}): waiting for it")
                self.connection.close()


@dataclass
class _Submission:
    """Tasks at one scheduler as long as it lives; those that end are taken out of ``left``."""

    cluster: Cluster
    client: Client
    recorder: Recorder
    progress: Progress
    left: dict[str, Task]
    running: dict[Future[Any], tuple[Task, Order]] = field(default_factory=dict)
    workers: int = 0
    room: int = 0  # tasks that the workers can begin
    without_host: float | None = None  # since when no worker has the resource

    def measure(self) -> None:
        """Submit what the workers have room for, until nothing is left."""
        looked = -POLL
        try:
            while self.left:
                if time.monotonic() - looked >= POLL:
                    looked = time.monotonic()
                    self._look()
                self._submit()
                self._wait(POLL, "FIRST_COMPLETED")
                self._finish()
        except Terminated:
            self.cluster.connection.end()
            with suppress(Lost):
                self._wait(GRACE if self.workers else 0.0, "ALL_COMPLETED")
                self._finish()
            raise
        finally:
            with suppress(Lost), losses():
                self.client.cancel(list(self.running))

    def _look(self) -> None:
        """Ask which workers there are; Lost where nobody answers."""
        if self.client.status != "running":
            raise Lost("the connection is closed")
        with losses():
            workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        if len(workers) != self.workers:
            self.workers = len(workers)
            self.progress.workers(self.workers)
        if self.cluster.alone:
            self.room = sum(HOST in worker["resources"] for worker in workers)
            self._check_hosts()
        else:
            self.room = sum(worker["nthreads"] for worker in workers)
        if not workers:
            self.progress.waiting(f"no worker at {self.cluster.connection.address}")

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
        self.progress.waiting(lack)

    def _submit(self) -> None:
        """Submit tasks as long as there is room."""
        submitted = {task.key for task, _ in self.running.values()}
        options: dict[str, Any] = {"resources": {HOST: 1}} if self.cluster.alone else {}
        for task in [task for key, task in self.left.items() if key not in submitted]:
            if len(self.running) >= self.room:
                return
            order, settled = self.recorder.begin(task)
            if order.cases:
                of_run = self.cluster.connection.over, str(self.recorder.folder)
                how = self.cluster.setup, self.cluster.alone, loaded_files()
                key = f"flowgauge-{uuid.uuid4().hex}"
                with losses():
                    future = self.client.submit(
                        measured, order, *of_run, *how,
                        key=key, retries=RETRIES, pure=False, **options,
                    )  # fmt: skip
                self.running[future] = task, order
            else:
                del self.left[task.key]
            self.progress.task(task)
            for case, record in settled:
                self.progress.case(task, case, record)

    def _wait(self, seconds: float, until: Literal["FIRST_COMPLETED", "ALL_COMPLETED"]) -> None:
        """Wait until a task ends, or all do, but no longer than that."""
        if not self.running:
            threading.Event().wait(POLL)
            return
        with self.client.as_current(), losses(), suppress(TimeoutError):
            wait(list(self.running), timeout=seconds, return_when=until)

    def _finish(self) -> None:
        """Record what has been measured."""
        for future in [future for future in self.running if future.done()]:
            task, order = self.running[future]
            if future.cancelled():
                raise Lost("it has forgotten a task")
            with losses():
                error = future.exception() if future.status == "error" else None
                outcomes = [] if error else future.result()
            if isinstance(error, KilledWorker):
                reason = f"the task's Dask workers died, each time: {error}"
                outcomes = [(key, Measured(Result(failure=reason), 0.0)) for key in order.cases]
            elif error:
                raise ClusterError(f"a worker cannot measure: {error}") from error
            del self.running[future], self.left[task.key]
            for key, outcome in outcomes:
                record = self.recorder.write(order, key, outcome)
                self.progress.case(task, order.planned[key], record)


# of each of a Dask worker's threads: its measuring process, and for which run
_local = threading.local()


def measured(
    order: Order, over: str, folder: str, setup: Setup, alone: bool, plugins: Sequence[str]
) -> list[tuple[str, Measured]]:
    """Measure a task on a Dask worker: the outcomes by key.

    They are those of the cases that have ended where the run, whose event is ``over``, stops.
    """
    for plugin in plugins:
        load_plugin(plugin)
    if not alone:  # this thread's part of the memory that the Dask worker may use
        total, host = memory_bytes(), get_worker()
        limit = min(total, host.memory_manager.memory_limit or total)
        share = setup.memory_share * limit / total / host.state.nthreads
        setup = replace(setup, memory_share=share)
    worker, busy = _worker(over, setup)
    outcomes: list[tuple[str, Measured]] = []
    hold = locks.timing(Path(folder), lambda reason: worker.check()) if alone else nullcontext()
    with busy, suppress(Cancelled), hold:
        for outcome in order.measured(worker):
            outcomes.append(outcome)
    return outcomes


def _worker(over: str, setup: Setup) -> tuple[Worker, threading.Lock]:
    """The measuring process of this thread, and what is held while it measures.

    Each run has a new one, whose code may be newer, until it is over.
    """
    if getattr(_local, "purpose", None) != (over, setup):
        if hasattr(_local, "measuring"):
            _local.measuring[0].stop()
        _local.purpose, _local.measuring = (over, setup), (Worker(setup, NANNY), threading.Lock())
        event = Event(over, client=get_client())
        threading.Thread(target=_end_with, args=(event, *_local.measuring), daemon=True).start()
    measuring: tuple[Worker, threading.Lock] = _local.measuring
    return measuring


def _end_with(event: Event, worker: Worker, busy: threading.Lock) -> None:
    """Stop a measuring process, at its next checkpoint, once the run that asked is over."""
    with suppress(Exception):  # the scheduler is gone, and this process will be
        event.wait()
    worker.cancel(gently=True)
    with busy:
        worker.stop()


@contextmanager
def connection(scheduler: str, setups: list[Setup], jobs: int) -> Iterator[Connection]:
    """A connection to a scheduler by its address, or to one that is started: local or slurm.

    Local workers are as many as ``setups`` there are, each with its GPU. ClusterError where no
    scheduler answers.
    """
    with dask.config.set(CONFIG), ExitStack() as stack:
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))  # the run tells what is lost
        address = scheduler
        if scheduler in ("local", "slurm"):
            started = local_cluster(setups) if scheduler == "local" else slurm_cluster(jobs)
            address = stack.enter_context(started).scheduler_address
        connected = Connection(address)
        stack.callback(connected.close)
        stack.callback(connected.end)
        yield connected


def local_cluster(setups: list[Setup]) -> SpecCluster:
    """A worker on this machine for each setup, each a process; one may have the host to itself."""
    memory = memory_bytes() // len(setups)
    workers = {
        number: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": memory,
                "resources": {HOST: 1} if number == 0 else {},
                "env": {"CUDA_VISIBLE_DEVICES": setup.gpu} if setup.gpu else {},
            },
        }
        for number, setup in enumerate(setups)
    }
    options = {"dashboard": False, "dashboard_address": ":0", "port": 0, "host": "127.0.0.1"}
    scheduler = {"cls": Scheduler, "options": options}
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=False)


def slurm_cluster(jobs: int) -> SpecCluster:
    """Workers that SLURM starts, each a job by dask-jobqueue's configuration (jobqueue.slurm)."""
    from dask_jobqueue import SLURMCluster

    site = dask.config.get("jobqueue.slurm", {})
    if not (site.get("cores") and site.get("memory")):
        raise ClusterError(
            "--scheduler slurm needs to know what a job is: set cores and memory in jobqueue.slurm "
            "of ~/.config/dask/jobqueue.yaml"
        )
    extra = site.get("worker-extra-args") or []
    cluster = SLURMCluster(
        processes=1,
        scheduler_options={"dashboard_address": ":0", **(site.get("scheduler-options") or {})},
        worker_extra_args=[*extra, "--nthreads", "1", "--resources", f"{HOST}=1"],
    )
    cluster.scale(jobs=jobs)  # `adapt` would cancel jobs that are idle
    started: SpecCluster = cluster
    return started
