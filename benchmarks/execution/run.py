"""Running a suite: what has no current record is measured, task by task, and recorded.

Tasks are measured by workers of this machine (`Pool`), or by those of Dask (`Cluster`), which have
the same interface.
"""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.core import locks, store
from benchmarks.execution.plan import (
    WHOLE,
    Shard,
    State,
    Task,
    longest_first,
    state,
    tasks,
    write_plan,
)
from benchmarks.execution.process import Cancelled, Setup, Worker
from benchmarks.execution.recorder import (
    CHECKPOINTS,
    GRACE,
    Progress,
    Recorder,
    Terminated,
)
from benchmarks.execution.suite import Suite
from benchmarks.measure import machine
from benchmarks.training import PLATEAU

Phase = Literal["both", "beside", "alone"]


class Engine(Protocol):
    """Measures tasks side by side, as many at once as it has workers."""

    def measure(self, tasks: Sequence[Task], recorder: Recorder, progress: Progress) -> None:
        """Measure tasks, and tell of them in the caller's thread.

        Where an exception is raised there, workers stop; at their next checkpoints if it is
        `Terminated`.
        """


@dataclass(frozen=True)
class Asked:
    """What a run is asked to measure: which cases again, which part of the plan, by how many jobs.

    ``phase`` leaves out what is measured alone on the machine, or all the rest.
    """

    retry: bool = False
    renew_times: bool = False
    shard: Shard = WHOLE
    jobs: int = 1
    phase: Phase = "both"
    keep_weights: bool = False  # of the flows that are trained and scored, in weights/<key>
    scheduler: str = ""  # an address of Dask's, "local" or "slurm"; empty: workers of this process

    def admits(self, task: Task) -> bool:
        """Whether a task is of the phase."""
        return self.phase == "both" or task.alone == (self.phase == "alone")

    def left_over(self, now: State) -> set[str]:
        """The keys of cases that the run should have measured and that are not done."""
        return {case.key for case in now.cases if self.admits(Task((case,)))} - now.done

    def wanted(self, suite: Suite, now: State) -> set[str]:
        """The keys of cases to measure."""
        if suite.operators:  # what the code does now, whatever it declares
            return {case.key for case in now.cases} - now.newer.keys()
        wanted = now.missing | now.stale | (now.retried() if self.retry else set())
        wanted |= now.elsewhere if self.renew_times else set()
        wanted |= now.unkept() if self.keep_weights else set()
        return wanted - now.newer.keys()


def run(
    suite: Suite,
    folder: Path,
    progress: Progress,
    asked: Asked = Asked(),
    *,
    worker: Worker | None = None,
) -> State:
    """Measure what has no current record, and return where the suite then stands.

    Trainings and counts come first, side by side if there are several jobs; then, one by one,
    whatever is timed. Failures and skips stand until a version is raised or ``retry`` is asked for;
    ``renew_times`` measures cases again whose times are of another class of machine or minor
    version of torch, and to keep weights it trains flows again. A training that was cut off goes on
    from its checkpoint. A suite that counts operators is measured afresh: it notices what nobody
    declared. Corrupt records are set aside and measured again; cases of a newer schema are left
    out. A given ``worker`` measures in place of the run's own, and lives on.

    Raises FolderError where another process holds the folder or it cannot be read or written,
    ValueError for a suite that cannot be expanded or for more jobs than there is room for, and
    ClusterError for a cluster that cannot measure.
    """
    with locks.held(folder):
        _set_corrupt_aside(folder)
        now = state(suite, folder, asked.shard)
        write_plan(suite, folder, asked.shard)
        wanted = asked.wanted(suite, now)
        _sweep(folder, now.done - wanted)
        todo = [case for case in now.cases if case.key in wanted]
        listed = [task for task in tasks(todo, suite.operators) if asked.admits(task)]
        progress.begin(todo, len(now.cases) - len(todo), sum(task.budget for task in listed))
        if listed:
            recorder = Recorder(folder, suite.time_limit, now.records, asked.keep_weights)
            with _engines(suite, asked, worker) as engines:
                _measure(*engines, recorder, progress, listed)
            now = state(suite, folder, asked.shard)
        if not asked.left_over(now):
            for path in (folder / CHECKPOINTS).glob(f"{PLATEAU}-*"):  # what trainings share
                path.unlink(missing_ok=True)
    return now


def _set_corrupt_aside(folder: Path) -> None:
    for path, reason in store.set_aside(folder).items():
        text = f"record {path.name} is corrupt and was set aside: {reason}"
        warnings.warn(text, stacklevel=3)


def _sweep(folder: Path, done: Collection[str]) -> None:
    """Remove temporary files that killed runs have left, and checkpoints of what is done."""
    store.sweep(folder, folder / store.RECORDS, folder / CHECKPOINTS)
    for path in (folder / CHECKPOINTS).glob("*"):
        if path.name.partition("-")[0] in done:
            path.unlink()


@contextmanager
def _engines(suite: Suite, asked: Asked, worker: Worker | None) -> Iterator[tuple[Engine, Engine]]:
    """What measures side by side, and what measures alone; stopped at the end."""
    if worker is not None:
        yield Pool([worker]), Pool([worker])
        return
    single = setups(suite, 1)[0]
    with ExitStack() as stack:
        if asked.scheduler:
            from benchmarks.execution.cluster import Cluster, connection

            local = setups(suite, asked.jobs if asked.scheduler == "local" else 1)
            connected = stack.enter_context(connection(asked.scheduler, local, asked.jobs))
            yield Cluster(connected, single), Cluster(connected, single, alone=True)
            return
        beside = Pool([Worker(setup) for setup in setups(suite, asked.jobs)])
        alone = beside if asked.jobs == 1 else Pool([Worker(single)])
        stack.callback(alone.stop)
        stack.callback(beside.stop)
        yield beside, alone


def _measure(
    beside: Engine, alone: Engine, recorder: Recorder, progress: Progress, listed: Sequence[Task]
) -> None:
    """Measure tasks, those that others wait for first; those that are alone after the rest."""
    while listed:
        waiting = {case.key for task in listed for case in task.cases}
        ready = [task for task in listed if recorder.ready(task, waiting)]
        if not ready:
            progress.waiting(f"{len(waiting)} cases need others that this run leaves out")
            return
        beside.measure([task for task in ready if not task.alone], recorder, progress)
        if timed := [task for task in ready if task.alone]:
            local = isinstance(alone, Pool)  # else the machines that measure are held
            with locks.timing(recorder.folder, progress.waiting) if local else nullcontext():
                alone.measure(timed, recorder, progress)
        over = {task.key for task in ready}
        listed = [task for task in listed if task.key not in over]


class Pool:
    """Workers of this machine, each the next one that is left."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = list(workers)

    def measure(self, tasks: Sequence[Task], recorder: Recorder, progress: Progress) -> None:
        """Measure tasks, as `Engine` has it; an exception in a worker's thread is raised here."""
        left = deque(longest_first(tasks) if len(self.workers) > 1 else tasks)
        events = queue.SimpleQueue[Callable[[], None] | BaseException | None]()

        def serve(worker: Worker) -> None:
            """Measure tasks until none is left."""
            try:
                while True:
                    task = left.popleft()
                    events.put(partial(progress.task, task))
                    for case, record in recorder.records(task, worker):
                        events.put(partial(progress.case, task, case, record))
            except (IndexError, Cancelled):
                events.put(None)
            except BaseException as error:
                events.put(error)

        workers = self.workers[: len(tasks)]
        threads = [threading.Thread(target=serve, args=(worker,)) for worker in workers]
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
                    event()
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


def setups(suite: Suite, jobs: int) -> list[Setup]:
    """What each worker of a suite may use; ValueError for more of them than there is room for."""
    gpus: list[str | None] = [None] * jobs
    if suite.device.startswith("cuda") and jobs > 1:
        visible = machine.gpus()
        if jobs > len(visible):
            raise ValueError(f"--jobs {jobs} needs as many GPUs, and {len(visible)} are visible")
        gpus = list(visible[:jobs])
    cores = [None] * jobs if gpus[0] else cores_for(jobs, suite.threads)
    share = suite.memory_share / jobs
    return [
        Setup(suite.threads, suite.device, share, suite.operators, *bound)
        for bound in zip(cores, gpus, strict=True)
    ]


def cores_for(jobs: int, threads: int) -> list[frozenset[int] | None]:
    """Disjoint cores for each of several workers; a single one is not bound to any.

    ValueError where this process may use too few.
    """
    if jobs == 1:
        return [None]
    cores = machine.cores()
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
