"""Running a suite: what has no current record is measured, task by task, and recorded."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from benchmarks.core import store
from benchmarks.core.case import Case
from benchmarks.core.record import Record
from benchmarks.execution import host, leftovers
from benchmarks.execution.claims import Claims
from benchmarks.execution.pools import Begun, Event, Pool, Recorded, Terminated, Workers, setups
from benchmarks.execution.recorder import Recorder
from benchmarks.execution.state import WHOLE, State, state, write_plan
from benchmarks.execution.suite import Suite
from benchmarks.execution.tasks import Shard, Task, budget, tasks
from benchmarks.execution.worker import Worker
from benchmarks.measure import machine

if TYPE_CHECKING:
    from benchmarks.execution.cluster import Cluster

POLL = 2.0  # seconds between two looks at what other runs hold


class Progress(Protocol):
    """Who is told of a run's progress."""

    def begin(self, cases: Sequence[Case], kept: int, budget: float) -> None: ...

    def task(self, task: Task) -> None: ...

    def case(self, task: Task, case: Case, record: Record) -> None: ...

    def waiting(self, reason: str) -> None: ...

    def workers(self, count: int) -> None: ...


Phase = Literal["both", "beside", "alone"]


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
    scheduler: str = ""  # an address of Dask's, "local" or "slurm"; none: workers of this process
    throughout: bool = False  # hold the host from beginning to end: no task waits for others

    def left_over(self, now: State) -> set[str]:
        """The keys of cases that the run should have measured and that are not done."""
        keys = {case.key for case in now.cases}
        if self.phase == "both":
            return keys - now.done
        alone = {c.key for c in now.cases if Task((c,)).alone}
        asked = keys - alone - now.pending if self.phase == "beside" else keys
        return asked - now.done

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

    Trainings and counts come first, side by side if there are several jobs; then, one by one with
    the host's lock, whatever is timed. Failures and skips stand until a version is raised or
    ``retry`` is asked for; ``renew_times`` measures cases again whose times are of another class of
    machine or minor version of torch, and to keep weights it trains flows again. A training that
    was cut off goes on from its checkpoint. A suite that counts operators is measured afresh: it
    notices what nobody declared. Corrupt records are set aside and measured again; cases of a newer
    schema are left out. Several runs may share a folder: each task is measured by the one that
    claims it. A given ``worker`` measures in place of the run's own, and lives on.

    Raises FolderError where the folder is held or cannot be read or written, ValueError for a suite
    that cannot be expanded or for more jobs than there is room for, and ClusterError for a cluster
    that cannot measure.
    """
    with Claims(folder) as claims:
        with store.held(folder):
            if not claims.others():  # no record is half there
                claims.sweep()
                _set_corrupt_aside(folder)
                leftovers.sweep(folder, store.read(folder))
            claims.take(claims.run)  # nobody packs the folder now
        now = state(suite, folder, asked.shard)
        with store.held(folder):
            write_plan(suite, folder, asked.shard)
        wanted = asked.wanted(suite, now)
        todo = [case for case in now.cases if case.key in wanted]
        expected = sum(sum(budget(case)) for case in todo)
        progress.begin(todo, len(now.cases) - len(todo), expected)
        if todo:
            recorder = Recorder(folder, suite.time_limit, claims, now.records, asked.keep_weights)
            with ExitStack() as stack:
                pool, single = stack.enter_context(_pools(suite, asked, progress, worker))
                phases = Phases(pool, single, recorder, progress, asked.throughout)
                if asked.throughout:
                    stack.enter_context(phases.host(lambda: None))
                _measured(phases, suite, now, todo, asked.phase)
            now = state(suite, folder, asked.shard)
        if not asked.left_over(now):
            leftovers.tidy(folder)
    return now


@contextmanager
def _pools(
    suite: Suite, asked: Asked, progress: Progress, worker: Worker | None
) -> Iterator[tuple[Pool | Cluster, Pool | Cluster]]:
    """The pool of what runs side by side, and that of what runs alone; stopped at the end."""
    if worker is not None:
        yield Pool([worker]), Pool([worker])
        return
    single = setups(suite, 1)[0]
    with ExitStack() as stack:
        if asked.scheduler:
            from benchmarks.execution.cluster import Cluster
            from benchmarks.execution.schedulers import connection

            local = setups(suite, asked.jobs if asked.scheduler == "local" else 1)
            connected = stack.enter_context(
                connection(asked.scheduler, local, asked.jobs, progress.waiting)
            )
            yield Cluster(connected, single), Cluster(connected, single, alone=True)
            return
        count = asked.jobs * suite.threads if asked.jobs > 1 else 0
        cores = stack.enter_context(host.reserved(machine.cores(), count))
        beside = Pool([Worker(setup) for setup in setups(suite, asked.jobs, cores)])
        alone = beside if asked.jobs == 1 else Pool([Worker(single)])
        stack.callback(alone.stop)
        stack.callback(beside.stop)
        yield beside, alone


@dataclass
class Phases:
    """The phases of a run: tasks side by side, and those that have the machine to themselves."""

    pool: Pool | Cluster
    single: Pool | Cluster
    recorder: Recorder
    progress: Progress
    held: bool = False  # the host, by the run as a whole

    def beside(self, listed: Sequence[Task]) -> list[Task]:
        """Measure tasks side by side; the tasks that other runs hold."""
        lock = (lambda check: nullcontext()) if self.held else self.host
        return self._measured(self.pool.measure(listed, self.recorder, lock))

    def alone(self, listed: Sequence[Task]) -> list[Task]:
        """Measure tasks one after another, alone on the host; the tasks that other runs hold."""
        if not listed:
            return []
        with nullcontext() if self.single.remote else host.alone(self._wait):
            return self._measured(self.single.measure(listed, self.recorder, nullcontext))

    def _measured(self, events: Generator[Event]) -> list[Task]:
        held = []
        with closing(events):
            try:
                for event in events:
                    if isinstance(event, Begun):
                        self.progress.task(event.task)
                    elif isinstance(event, Recorded):
                        self.progress.case(event.task, event.case, event.record)
                    elif isinstance(event, Workers):
                        self.progress.workers(event.count)
                    elif event.held:
                        held.append(event.task)
            except Terminated as end:  # wherever the signal came
                events.throw(end)
        return held

    def host(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the host together with others; ``check`` is called as long as that takes time."""

        def waiting() -> None:
            check()
            self._wait()

        return host.beside(waiting)

    def _wait(self) -> None:
        lock = host.folder() / "flowgauge-host.lock"
        what = f"another run on this host is timing, or is to end first ({lock})"
        self.progress.waiting(what)


def _measured(phases: Phases, suite: Suite, now: State, todo: Sequence[Case], phase: Phase) -> None:
    """Measure cases in their phases until none is left, also of those that other runs hold."""
    kept = {c.key for c in todo if c.key in now.pending and phases.recorder.kept(c)}
    listed = tasks([case for case in todo if case.key not in kept], suite.operators)
    if phase != "both":
        listed = [task for task in listed if task.alone == (phase == "alone")]
    while listed:
        waiting = {case.key for task in listed for case in task.cases}
        ready = [task for task in listed if phases.recorder.ready(task, waiting)]
        if not ready:
            phases.progress.waiting(f"{len(waiting)} cases need others that this run leaves out")
            break
        held = phases.beside([task for task in ready if not task.alone])
        held += phases.alone([task for task in ready if task.alone])
        if held:
            phases.progress.waiting("other runs measure what is left")
            threading.Event().wait(POLL)
        names = {task.name for task in ready}
        listed = held + [task for task in listed if task.name not in names]
    if phase == "beside":
        return
    pending = [case for case in todo if phases.recorder.pending(case)]
    timed = [Task((case,), times=True) for case in pending if phases.recorder.kept(case)]
    while timed:
        timed = phases.alone(timed)
        if timed:
            threading.Event().wait(POLL)


def _set_corrupt_aside(folder: Path) -> None:
    for path, reason in store.set_aside(folder).items():
        text = f"record {path.name} is corrupt and was set aside: {reason}"
        warnings.warn(text, stacklevel=3)
