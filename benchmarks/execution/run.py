"""Running a suite: what has no current record is measured, task by task, and recorded.

A `Recorder` turns tasks into records. What measures them is an `Engine`: workers of this machine
(`Pool`), or those of Dask (`cluster.Cluster`).
"""

import math
import queue
import shutil
import statistics
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Protocol

import numpy as np

from benchmarks.core import locks, store
from benchmarks.core.case import Case, defaults_of, digest
from benchmarks.core.record import Declared, Record, Status, Values
from benchmarks.core.study import Result, Skipped, study_of
from benchmarks.execution import plan, process, versions
from benchmarks.execution.process import Files, Measured, Setup, Worker, measured
from benchmarks.execution.suite import Suite
from benchmarks.measure import machine
from benchmarks.training.checkpoint import PLATEAU, share

CHECKPOINTS = "checkpoints"  # the subfolder of cases that were cut off


class Progress(Protocol):
    """Who is told of a run's progress."""

    def begin(
        self, cases: Sequence[Case], kept: int, budget: float, begun: Mapping[str, float]
    ) -> None: ...

    def task(self, task: plan.Task) -> None: ...

    def case(self, task: plan.Task, case: Case, record: Record) -> None: ...

    def waiting(self, reason: str) -> None: ...

    def workers(self, count: int) -> None: ...


@dataclass
class Order:
    """A task on its way: its cases as planned, those that are measured, and what they depend on."""

    task: plan.Task
    limit: float  # seconds
    planned: dict[str, Case]
    cases: dict[str, Case] = field(default_factory=dict)  # as they are measured
    files: dict[str, Files] = field(default_factory=dict)
    needs: dict[str, versions.Dependencies] = field(default_factory=dict)

    def measured(self, worker: Worker) -> Iterator[tuple[str, Measured]]:
        """Yield each case's key and outcome as it comes."""
        if self.cases:
            yield from measured(worker, list(self.cases.values()), self.limit, self.files)


@dataclass
class Recorder:
    """Resolves the cases of tasks, and writes what is measured into a folder."""

    folder: Path
    limit: float  # seconds that one task may take
    before: Mapping[str, Record]  # of the folder as it was
    keep_weights: bool  # of flows that are trained
    progress: Progress

    def ready(self, task: plan.Task, waiting: Collection[str]) -> bool:
        """Whether all that the cases of a task need has its record, and none is ``waiting``."""
        keys = {key for case in task.cases for key in case.needs}
        try:
            return keys.isdisjoint(waiting) and all(store.read_one(self.folder, k) for k in keys)
        except (KeyError, ValueError):
            return False

    def begin(self, task: plan.Task) -> tuple[Order, list[tuple[Case, Record]]]:
        """What is to be measured of a task, and the records of cases that need no measurement."""
        order = Order(task, self.limit, {case.key: case for case in task.cases})
        settled = []
        for key, case in order.planned.items():
            order.needs[key] = needs = versions.dependencies_at_hand(case)
            weights = (self.folder / plan.WEIGHTS / key).absolute() if self.keep_weights else None
            order.files[key] = Files(checkpoint_of(self.folder, key, needs).absolute(), weights)
            try:
                order.cases[key] = resolved = self._resolved(case)
            except Exception as reason:  # a plug-in's study raises any
                status: Status = "skipped" if isinstance(reason, Skipped) else "failed"
                known = isinstance(reason, Skipped | ValueError)
                result = Result(failure=str(reason)) if known else Result.of(reason)
                outcome = Measured(result, 0.0, None, status)
                settled.append((case, self.write(order, key, outcome)))
                continue
            first = not self.keep_weights and key not in self.before
            if first and (source := versions.source_of(resolved, self.before)):
                del order.cases[key]
                settled.append((case, self._repeat(order, case, resolved, source)))
        return order, settled

    def write(self, order: Order, key: str, outcome: Measured) -> Record:
        """Write the record of a case, and remove the files that it needs no more."""
        case, result, needs = order.planned[key], outcome.result, order.needs[key]
        here = {"versions": machine.versions(), "commit": machine.commit()}
        here |= {"started": datetime.now(UTC).isoformat(timespec="seconds")}
        record = Record(
            case=order.cases.get(key, case),
            key=key,
            identity=case.identity,
            defaults=defaults_of(case),
            declared={name: Declared(*pair) for name, pair in needs.declared.items()},
            files=dict(needs.files),
            plugins=versions.plugins_of(case),
            status=outcome.status if result.failure else "done",
            reason=result.failure,
            metrics={name: Values.of(name, values) for name, values in result.metrics.items()},
            notes=dict(result.notes),
            seconds=outcome.seconds,
            shared=outcome.shared,
            **{**here, **outcome.facts},
        )
        self._store(order, record, result.arrays)
        return record

    def _resolved(self, case: Case) -> Case:
        """The case as it is measured; `Skipped` and ValueError as of `Study.resolved`."""
        study = study_of(case)
        earlier = [store.read_one(self.folder, key) for key in case.needs]
        arrays = partial(store.arrays_of, self.folder)
        return study.resolved(case, earlier, arrays).changed(resolves=case.key) if earlier else case

    def _repeat(self, order: Order, case: Case, resolved: Case, source: Record) -> Record:
        """The record of a case whose work is that of another, which has its record."""
        changes = {"case": resolved, "key": case.key, "identity": case.identity}
        notes = source.notes | {"same_as": source.key}
        record = source.model_copy(update={**changes, "notes": notes})
        self._store(order, record, store.arrays_of(self.folder, source))
        return record

    def _store(self, order: Order, record: Record, arrays: Mapping[str, np.ndarray]) -> None:
        store.write(self.folder, record, dict(arrays))
        if not self.keep_weights:  # those that there are were of another training
            shutil.rmtree(self.folder / plan.WEIGHTS / record.key, ignore_errors=True)
        needed = order.files[record.key].checkpoint.name if record.status != "done" else ""
        for path in (self.folder / CHECKPOINTS).glob(f"{record.key}-*"):
            if path.name != needed:
                path.unlink(missing_ok=True)


class Engine(Protocol):
    """Measures tasks side by side, as many at once as it has workers, or ``alone`` on a machine."""

    def measure(self, tasks: Sequence[plan.Task], recorder: Recorder, alone: bool) -> None:
        """Measure tasks, and tell the progress of them in the caller's thread.

        Where an exception is raised there, workers stop; at their next checkpoints if it is
        `Terminated`.
        """


@dataclass(frozen=True)
class Asked:
    """What a run is asked to measure: which cases again, which part of a plan, how many jobs."""

    retry: bool = False
    renew_times: bool = False
    shard: plan.Shard = plan.WHOLE
    jobs: int = 1
    # all, what is measured beside others, or what is measured alone on the machine
    phase: Literal["both", "beside", "alone"] = "both"
    keep_weights: bool = False  # of the flows that are trained and scored, in weights/<key>
    scheduler: str = ""  # an address of Dask's, "local" or "slurm"; empty: workers of this process

    def admits(self, task: plan.Task) -> bool:
        return self.phase == "both" or task.alone == (self.phase == "alone")

    def left_over(self, now: plan.State, operators: bool = False) -> set[str]:
        """The keys of cases that the run should have measured and that are not done."""
        tasks = {case.key: plan.Task((case,), operators) for case in now.cases}
        return {key for key, task in tasks.items() if self.admits(task)} - now.done

    def wanted(self, suite: Suite, now: plan.State) -> set[str]:
        if suite.operators:  # what the code does now, whatever it declares
            return {case.key for case in now.cases} - now.newer.keys()
        keys = now.missing | now.stale | (now.retried() if self.retry else set())
        keys |= now.elsewhere if self.renew_times else set()
        keys |= now.unkept() if self.keep_weights else set()
        return keys - now.newer.keys()


def run(
    suite: Suite,
    folder: Path,
    progress: Progress,
    asked: Asked = Asked(),
    *,
    worker: Worker | None = None,
) -> plan.State:
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
        for path, reason in store.set_aside(folder).items():
            text = f"record {path.name} is corrupt and was set aside: {reason}"
            warnings.warn(text, stacklevel=2)
        now = plan.state(suite, folder, asked.shard)
        plan.write_plan(suite, folder, asked.shard)
        keys = asked.wanted(suite, now)
        store.sweep(folder, folder / store.RECORDS, folder / CHECKPOINTS)
        for path in (folder / CHECKPOINTS).glob("*"):  # of killed runs
            if path.name.partition("-")[0] in now.done - keys:
                path.unlink()
        todo = [case for case in now.cases if case.key in keys]
        work = [task for task in plan.tasks(todo, suite.operators) if asked.admits(task)]
        kept, budget = len(now.cases) - len(todo), sum(task.budget for task in work)
        progress.begin(todo, kept, budget, _begun(folder, todo))
        if work:
            recorder = Recorder(folder, suite.time_limit, now.records, asked.keep_weights, progress)
            with _engine(suite, asked, worker) as engine:
                _measure(engine, recorder, work)
            now = plan.state(suite, folder, asked.shard)
        if not asked.left_over(now, suite.operators):
            for path in (folder / CHECKPOINTS).glob(f"{PLATEAU}-*"):  # what trainings share
                path.unlink(missing_ok=True)
    return now


def checkpoint_of(folder: Path, key: str, needs: versions.Dependencies) -> Path:
    """The file of a case's training, as long as what the case depends on stays."""
    return folder / CHECKPOINTS / f"{key}-{digest([needs.declared, needs.files])[:16]}.pt"


def _begun(folder: Path, cases: Sequence[Case]) -> dict[str, float]:
    """Expected seconds that checkpoints hold of trainings that were cut off, by key."""
    keys = {path.name.partition("-")[0] for path in (folder / CHECKPOINTS).glob("*")}
    begun = {}
    for case in (case for case in cases if case.key in keys):
        path = checkpoint_of(folder, case.key, versions.dependencies_at_hand(case))
        if part := share(path, case.updates):
            begun[case.key] = part * plan.budget(case)
    return begun


@contextmanager
def _engine(suite: Suite, asked: Asked, worker: Worker | None) -> Iterator[Engine]:
    """What measures; stopped at the end, but for a given worker."""
    single, jobs = setups(suite, 1)[0], asked.jobs
    if worker is not None:
        yield Pool([worker], worker.setup)
    elif asked.scheduler:
        from benchmarks.execution.cluster import connected

        local = setups(suite, jobs if asked.scheduler == "local" else 1)
        with connected(asked.scheduler, local, jobs, single) as cluster:
            yield cluster
    else:
        workers = [Worker(setup) for setup in setups(suite, jobs)]
        try:
            yield Pool(workers, single)
        finally:
            for each in workers:
                each.stop()


def _measure(engine: Engine, recorder: Recorder, work: Sequence[plan.Task]) -> None:
    """Measure tasks, those that others wait for first; those that are alone after the rest."""
    while work:
        waiting = {case.key for task in work for case in task.cases}
        ready = [task for task in work if recorder.ready(task, waiting)]
        if not ready:
            reason = f"{len(waiting)} cases need others that this run leaves out"
            recorder.progress.waiting(reason)
            return
        for alone in (False, True):
            if chosen := [task for task in ready if task.alone == alone]:
                engine.measure(chosen, recorder, alone)
        over = {task.key for task in ready}
        work = [task for task in work if task.key not in over]


@dataclass
class Pool:
    """Workers of this machine, each for the next task that is left; the first measures alone."""

    workers: Sequence[Worker]
    single: Setup  # of the first worker where it measures alone: all cores and all memory

    def measure(self, tasks: Sequence[plan.Task], recorder: Recorder, alone: bool) -> None:
        """Measure tasks, as `Engine` has it; an exception in a worker's thread is raised here."""
        workers = self.workers[: 1 if alone else len(tasks)]
        usual = workers[0].setup
        progress = recorder.progress
        backlog = deque(plan.longest_first(tasks) if len(workers) > 1 else tasks)
        events = queue.SimpleQueue[Callable[[], None] | BaseException | None]()

        def left() -> Iterator[plan.Task]:
            with suppress(IndexError):
                while True:
                    yield backlog.popleft()

        def serve(worker: Worker) -> None:
            try:
                for task in left():
                    events.put(partial(progress.task, task))
                    order, settled = recorder.begin(task)
                    for case, record in settled:
                        events.put(partial(progress.case, task, case, record))
                    for key, outcome in order.measured(worker):
                        record = recorder.write(order, key, outcome)
                        events.put(partial(progress.case, task, order.planned[key], record))
                events.put(None)
            except process.Cancelled:
                events.put(None)
            except BaseException as error:
                events.put(error)

        threads = [threading.Thread(target=serve, args=(worker,)) for worker in workers]
        with locks.timing(recorder.folder, progress.waiting) if alone else nullcontext():
            workers[0].setup = self.single if alone else usual
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
                backlog.clear()
                if isinstance(error, process.Terminated):
                    for worker in workers:
                        worker.cancel(gently=True)
                    deadline = time.monotonic() + process.STOPPING
                    for thread in threads:
                        thread.join(max(0.0, deadline - time.monotonic()))
                for worker in workers:
                    worker.cancel()
                raise
            finally:
                for thread in threads:
                    thread.join()
                workers[0].setup = usual


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


def contention(
    suite: Suite, cases: Sequence[Case], seconds: float, limit: float
) -> dict[str, tuple[float, float]]:
    """Measure updates in a CPU second, alone and beside another job, by family of a search.

    The first training of each family that ends by CPU seconds is cut to some ``seconds``. It runs
    alone on one core, then on both, then alone on the other. Where the ratio is beyond the
    ``limit``, this is done six times more, and the try of the median ratio counts.
    """
    first: dict[str, Case] = {}
    for case in cases:
        if not case.needs and (training := case.settings.get("training", {})).get("cpu_seconds"):
            settings = {**case.settings, "training": {**training, "cpu_seconds": seconds}}
            first.setdefault(str(settings["label"]), case.changed(settings=settings, roles={}))
    workers = [Worker(setup) for setup in setups(suite, 2)] if first else []

    def updates(worker: Worker, case: Case) -> float:
        """Updates in a CPU second; NaN of a training that fails."""
        with TemporaryDirectory() as folder:
            files = {case.key: Files(Path(folder) / f"{case.key}-tried.pt")}
            ((_, outcome),) = measured(worker, [case], suite.time_limit, files)
        metrics = outcome.result.metrics
        done, spent = (metrics.get(n, math.nan) for n in ("train_updates", "train_cpu_seconds"))
        return float(done) / float(spent)  # type: ignore[arg-type]  # single values

    def pair(case: Case) -> tuple[float, float]:
        """Means of the two cores: one after the other, and side by side between these."""
        before = updates(workers[0], case)
        with ThreadPoolExecutor() as pool:
            beside = statistics.fmean(pool.map(updates, workers, [case, case]))
        return (before + updates(workers[1], case)) / 2, beside

    try:
        result = {label: pair(case) for label, case in first.items()}
        for label, (alone, beside) in [*result.items()]:
            if alone > limit * beside:
                tries = [(alone, beside), *(pair(first[label]) for _ in range(6))]
                result[label] = sorted(tries, key=lambda rates: rates[0] / rates[1])[3]
        return result
    finally:
        for worker in workers:
            worker.stop()


def cores_for(jobs: int, threads: int) -> list[frozenset[int] | None]:
    """Disjoint cores for each of several workers, no binding of one; ValueError for too few."""
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
