"""Pools: the workers of this machine, each a process on cores of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benchmarks.core.case import Case
from benchmarks.core.record import Record
from benchmarks.execution.process import Setup
from benchmarks.execution.recorder import Recorder
from benchmarks.execution.suite import Suite
from benchmarks.execution.tasks import Task, longest_first
from benchmarks.execution.worker import Cancelled, Worker
from benchmarks.measure import machine

GRACE = 90.0  # seconds that workers have to come to a checkpoint
Host = Callable[[Callable[[], None]], AbstractContextManager[object]]


class Terminated(KeyboardInterrupt):
    """The process was asked to end: trainings stop at a checkpoint, and go on in the next run."""


@dataclass(frozen=True)
class Begun:
    """A task has begun."""

    task: Task


@dataclass(frozen=True)
class Recorded:
    """A case of a task has its record."""

    task: Task
    case: Case
    record: Record


@dataclass(frozen=True)
class Ended:
    """A task is over; ``held`` if another run holds it, so that nothing was measured."""

    task: Task
    held: bool = False


@dataclass(frozen=True)
class Workers:
    """The number of workers has changed."""

    count: int


Event = Begun | Recorded | Ended | Workers


class ClusterError(RuntimeError):
    """A cluster cannot measure; the message says what to change."""


def cores_for(
    jobs: int, threads: int, among: Sequence[frozenset[int]] | None = None
) -> list[frozenset[int] | None]:
    """Disjoint cores for each of several workers; a single one is not bound to any.

    They are ``among`` those given, or all that this process may use; ValueError for too few.
    """
    if jobs == 1:
        return [None]
    cores = machine.cores() if among is None else among
    if jobs * threads > len(cores):
        raise ValueError(
            f"--jobs {jobs} with {threads} threads each needs {jobs * threads} cores, and this "
            f"process may use {len(cores)}: take --jobs {most_jobs(threads)}, or auto"
        )
    return [
        frozenset[int]().union(*cores[number * threads : (number + 1) * threads])
        for number in range(jobs)
    ]


def most_jobs(threads: int, device: str = "cpu") -> int:
    """The number of workers that this machine has room for: by physical cores, or by GPUs."""
    if device.startswith("cuda"):
        return max(1, len(machine.gpus()))
    return max(1, len(machine.cores()) // threads)


def setups(suite: Suite, jobs: int, among: Sequence[frozenset[int]] | None = None) -> list[Setup]:
    """What each worker of a suite may use; ValueError for more of them than there is room for."""
    gpus: list[str | None] = [None] * jobs
    if suite.device.startswith("cuda") and jobs > 1:
        visible = machine.gpus()
        if jobs > len(visible):
            raise ValueError(f"--jobs {jobs} needs as many GPUs, and {len(visible)} are visible")
        gpus = list(visible[:jobs])
    cores = [None] * jobs if gpus[0] else cores_for(jobs, suite.threads, among)
    share = suite.memory_share / jobs
    return [
        Setup(suite.threads, suite.device, share, suite.operators, own, gpu)
        for own, gpu in zip(cores, gpus, strict=True)
    ]


class Pool:
    """Workers that measure tasks, each the next one that is left."""

    remote = False  # whether tasks may run on other hosts

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = list(workers)

    def measure(self, tasks: Sequence[Task], recorder: Recorder, host: Host) -> Generator[Event]:
        """Yield what happens; ``host`` is entered for each task, and calls what it is given as
        long as it waits.

        An exception in a worker's thread is raised here. Where the caller stops, so do the workers:
        at their next checkpoints if it was `Terminated`.
        """
        ordered = longest_first(tasks) if len(self.workers) > 1 else tasks
        left, events = deque(ordered), queue.SimpleQueue[Event | BaseException | None]()
        threads = [
            threading.Thread(target=_serve, args=(worker, left, recorder, host, events))
            for worker in self.workers[: len(tasks)]
        ]
        for thread in threads:
            thread.start()
        try:
            serving = len(threads)
            while serving:
                event = events.get()
                if isinstance(event, BaseException):
                    raise event
                if event is None:
                    serving -= 1
                else:
                    yield event
        except BaseException as error:
            left.clear()
            if isinstance(error, Terminated):
                self._cancel(threads, gently=True)
            self._cancel(threads, gently=False)
            raise
        finally:
            for thread in threads:
                thread.join()

    def _cancel(self, threads: Sequence[threading.Thread], gently: bool) -> None:
        """Stop the workers, and wait for those that are asked gently."""
        for worker in self.workers:
            worker.cancel(gently)
        deadline = time.monotonic() + GRACE
        for thread in threads if gently else ():
            thread.join(max(0.0, deadline - time.monotonic()))

    def stop(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.stop()


def _serve(
    worker: Worker,
    left: deque[Task],
    recorder: Recorder,
    host: Host,
    events: queue.SimpleQueue[Event | BaseException | None],
) -> None:
    """Measure tasks until none is left; the life of one worker's thread."""
    try:
        while left:
            try:
                task = left.popleft()
            except IndexError:
                break
            with host(worker.check):
                attend(worker, task, recorder, events.put)
    except Cancelled:
        pass
    except BaseException as error:
        events.put(error)
    events.put(None)


def attend(worker: Worker, task: Task, recorder: Recorder, report: Callable[[Event], None]) -> None:
    """Measure a task unless another run holds it or has measured it."""
    if not recorder.claims.take(task.name):
        report(Ended(task, held=True))
        return
    try:
        if wanted := recorder.unmeasured(task):
            report(Begun(wanted))
            for case, record in recorder.measure(worker, wanted):
                report(Recorded(wanted, case, record))
        report(Ended(task))
    finally:
        recorder.claims.release(task.name)
