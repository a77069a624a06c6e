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
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import dask
import distributed
from distributed.comm.addressing import get_address_host_port
from distributed.utils import silence_logging_cmgr

from benchmarks.core import locks
from benchmarks.core.study import Result
from benchmarks.execution import process
from benchmarks.execution.plan import Task, longest_first
from benchmarks.execution.process import Cancelled, ClusterError, Measured, Setup, Worker
from benchmarks.measure.machine import memory_bytes
from benchmarks.measure.process import SAFE
from flows.plugins import load_plugin, loaded_files

if TYPE_CHECKING:
    from benchmarks.execution.run import Order, Recorder

HOST = "flowgauge-host"  # the resource of a worker that may have its host to itself: one a host
POLL = 1.0  # seconds between two looks at the workers, and two attempts to connect
CONNECT = 10.0  # seconds in which a scheduler has to answer
ABSENT = 1800.0  # seconds after which a scheduler that was lost is given up
PATIENCE = 30.0  # seconds in which a worker with the resource has to come, once there are others
RETRIES = 3  # of a task that a host could not begin
NANNY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")
CONFIG: dict[str, Any] = {  # of the schedulers that are started here, and of their workers
    # no numbers of threads, which this process would have too
    "distributed.nanny.pre-spawn-environ": {"DASK_LOGGING__DISTRIBUTED": "error", **SAFE},
    # a job that ends by its clock is not the task's fault, which goes on from its checkpoint
    "distributed.scheduler.allowed-failures": 10,
}


T = TypeVar("T")


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


def answered(call: Callable[[], T]) -> T:
    """What a call of Dask gives; `Lost` where it fails or takes long, as of a stopped process."""
    answer = concurrent.futures.Future[T]()

    def ask() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    with losses():
        return answer.result(timeout=2 * CONNECT)


class Cluster:
    """The workers of a scheduler, by a client that is made anew after every loss.

    Dask's own client gives up after its timeout, and forgets its tasks at once.
    """

    def __init__(self, address: str, setup: Setup) -> None:
        self.address, self.setup = address, setup
        self.over = f"flowgauge-{uuid.uuid4().hex}"  # the event at which workers stop for this run
        self.workers = 0
        self.running: dict[distributed.Future[Any], Order] = {}
        self.without_host: float | None = None  # since when no worker has the resource
        try:
            get_address_host_port(address)
            self._connect()
        except (Lost, ValueError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {address!r} ({error}): start one with "
                "'dask scheduler', or take --scheduler local"
            ) from error

    def _connect(self) -> None:
        with losses():
            self.client = distributed.Client(self.address, timeout=CONNECT, set_as_default=False)

    def end(self) -> None:
        """Let workers stop at their next checkpoints."""
        if self.client.status == "running":
            with suppress(Lost):
                answered(distributed.Event(self.over, client=self.client).set)

    def close(self) -> None:
        """Close the client, whatever the scheduler does."""
        with suppress(Lost):
            answered(lambda: self.client.close(timeout=5))

    def measure(self, tasks: Sequence[Task], recorder: Recorder, alone: bool) -> None:
        """Measure tasks, as `Engine` has it; ClusterError where the workers cannot."""
        backlog = {task.key: task for task in longest_first(tasks)}
        while backlog:
            try:
                self._measure(backlog, recorder, alone)
            except Lost as reason:
                text = f"lost the scheduler at {self.address} ({reason}): waiting for it"
                recorder.progress.waiting(text)
                self.close()
                since = time.monotonic()
                while True:
                    with suppress(Lost):
                        self._connect()
                        break
                    if time.monotonic() - since > ABSENT:
                        raise ClusterError(f"{text} in vain: start it, and run again") from reason
                    threading.Event().wait(POLL)

    def _measure(self, backlog: dict[str, Task], recorder: Recorder, alone: bool) -> None:
        """Submit what the workers have room for, until nothing is left or the scheduler is lost."""
        self.workers, self.running = 0, {}
        try:
            while backlog:
                room = self._room(recorder, alone)
                submitted = {order.task.key for order in self.running.values()}
                for task in [task for key, task in backlog.items() if key not in submitted]:
                    if len(self.running) >= room:
                        break
                    order, settled = recorder.begin(task)
                    if order.cases:
                        self.running[self._submitted(order, recorder, alone)] = order
                    else:
                        del backlog[task.key]
                    recorder.progress.task(task)
                    for case, record in settled:
                        recorder.progress.case(task, case, record)
                self._wait(POLL, "FIRST_COMPLETED")
                self._finish(backlog, recorder)
        except process.Terminated:
            self.end()
            with suppress(Lost):
                self._wait(process.STOPPING if self.workers else 0.0, "ALL_COMPLETED")
                self._finish(backlog, recorder)
            raise
        finally:
            if self.client.status == "running" and not isinstance(sys.exception(), Lost):
                with suppress(Lost):
                    answered(lambda: self.client.cancel(list(self.running)))

    def _room(self, recorder: Recorder, alone: bool) -> int:
        """How many tasks the workers can have; Lost if nobody answers, ClusterError for no host."""
        if self.client.status != "running":
            raise Lost("the connection is closed")
        workers = answered(lambda: self.client.scheduler_info(n_workers=-1))["workers"].values()
        if len(workers) != self.workers:
            self.workers = len(workers)
            recorder.progress.workers(self.workers)
        if not workers:
            recorder.progress.waiting(f"no worker at {self.address}")
        if not alone:
            return sum(worker["nthreads"] for worker in workers)
        hosts = sum(HOST in worker["resources"] for worker in workers)
        if hosts or not workers:
            self.without_host = None
            return hosts
        lack = f"no worker has the resource {HOST}"
        self.without_host = self.without_host or time.monotonic()
        if time.monotonic() - self.without_host > PATIENCE:
            raise ClusterError(
                f"{lack}, which what is timed needs: start one worker a host with "
                f"'dask worker ADDRESS --nthreads 1 --resources {HOST}=1'"
            )
        recorder.progress.waiting(lack)
        return 0

    def _submitted(self, order: Order, recorder: Recorder, alone: bool) -> distributed.Future[Any]:
        how = self.over, str(recorder.folder), self.setup, alone, loaded_files()
        resources = {"resources": {HOST: 1}} if alone else {}
        key = f"flowgauge-{uuid.uuid4().hex}"
        with losses():
            return self.client.submit(
                measured, order, *how, key=key, retries=RETRIES, pure=False, **resources
            )

    def _wait(self, seconds: float, until: Literal["FIRST_COMPLETED", "ALL_COMPLETED"]) -> None:
        """Wait until a task ends, or all do, but no longer than that."""
        if not self.running:
            threading.Event().wait(POLL)
            return
        with self.client.as_current(), losses(), suppress(TimeoutError):
            distributed.wait(list(self.running), timeout=seconds, return_when=until)

    def _finish(self, backlog: dict[str, Task], recorder: Recorder) -> None:
        for future in [future for future in self.running if future.done()]:
            order = self.running[future]
            if future.cancelled():
                raise Lost("it has forgotten a task")
            error = answered(future.exception) if future.status == "error" else None
            outcomes = [] if error else answered(future.result)
            if isinstance(error, distributed.KilledWorker):
                reason = f"the task's Dask workers died, each time: {error}"
                outcomes = [(key, Measured(Result(failure=reason), 0.0)) for key in order.cases]
            elif error:
                raise ClusterError(f"a worker cannot measure: {error}") from error
            del self.running[future], backlog[order.task.key]
            for key, outcome in outcomes:
                record = recorder.write(order, key, outcome)
                recorder.progress.case(order.task, order.planned[key], record)


# of each of a Dask worker's threads: its measuring process, and for which run
_local = threading.local()


def measured(
    order: Order, over: str, folder: str, setup: Setup, alone: bool, plugins: Sequence[str]
) -> list[tuple[str, Measured]]:
    """Measure a task on a Dask worker, until the event ``over`` of its run: outcomes by key."""
    for plugin in plugins:
        load_plugin(plugin)
    if not alone:  # this thread's part of the memory that the Dask worker may use
        total, host = memory_bytes(), distributed.get_worker()
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
    """This thread's measuring process, a new one a run, and what is held while it measures."""
    if getattr(_local, "purpose", None) != (over, setup):
        if hasattr(_local, "measuring"):
            _local.measuring[0].stop()
        _local.purpose, _local.measuring = (over, setup), (Worker(setup, NANNY), threading.Lock())
        event = distributed.Event(over, client=distributed.get_client())
        threading.Thread(target=_end_with, args=(event, *_local.measuring), daemon=True).start()
    measuring: tuple[Worker, threading.Lock] = _local.measuring
    return measuring


def _end_with(event: distributed.Event, worker: Worker, busy: threading.Lock) -> None:
    """Stop a measuring process, at its next checkpoint, once the run that asked is over."""
    with suppress(Exception):  # the scheduler is gone, and this process will be
        event.wait()
    worker.cancel(gently=True)
    with busy:
        worker.stop()


@contextmanager
def connected(scheduler: str, setups: list[Setup], jobs: int, single: Setup) -> Iterator[Cluster]:
    """The cluster of a scheduler by its address, or of one that is started: local or slurm.

    Local workers are as many as ``setups`` there are, each with its GPU; each measures as
    ``single`` says. ClusterError where no scheduler answers.
    """
    with dask.config.set(CONFIG), ExitStack() as stack:
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))  # the run tells what is lost
        address = scheduler
        if scheduler in ("local", "slurm"):
            started = local_cluster(setups) if scheduler == "local" else slurm_cluster(jobs)
            address = stack.enter_context(started).scheduler_address
        cluster = Cluster(address, single)
        stack.callback(cluster.close)
        stack.callback(cluster.end)
        yield cluster


def local_cluster(setups: list[Setup]) -> distributed.SpecCluster:
    """A worker on this machine for each setup, each a process; one may have the host to itself."""
    workers: dict[int, dict[str, Any]] = {}
    for number, setup in enumerate(setups):
        options: dict[str, Any] = {"nthreads": 1, "memory_limit": memory_bytes() // len(setups)}
        options["resources"] = {HOST: 1} if number == 0 else {}
        options["env"] = {"CUDA_VISIBLE_DEVICES": setup.gpu} if setup.gpu else {}
        workers[number] = {"cls": distributed.Nanny, "options": options}
    served = {"dashboard": False, "dashboard_address": ":0", "port": 0, "host": "127.0.0.1"}
    scheduler = {"cls": distributed.Scheduler, "options": served}
    return distributed.SpecCluster(workers=workers, scheduler=scheduler, silence_logs=False)


def slurm_cluster(jobs: int) -> distributed.SpecCluster:
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
    started: distributed.SpecCluster = cluster
    return started
