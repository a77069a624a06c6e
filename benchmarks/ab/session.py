"""A comparison of two revisions: a worker of each, blocks until the time is up, verdicts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import psutil

from benchmarks.ab.benches import select
from benchmarks.ab.checkouts import Revision
from benchmarks.ab.judgement import Judgement, judge, log_ratios
from benchmarks.ab.link import Greeting, WorkerGone, WorkerProcess
from benchmarks.ab.schedule import BASE, NEW, Block, Visit, blocks
from benchmarks.ab.subject import Subject

TRIAL = 5  # calls before the first block, which estimate the seconds of one
IDLE_WINDOW = 0.2  # seconds over which the load of the cores is measured


class RevisionWorker:
    """The worker of one revision, started again after it was lost."""

    def __init__(self, revision: Revision, python: str, core: int | None, subject: Subject) -> None:
        if subject.package and subject.source(revision.path) is None:
            raise ValueError(
                f"{revision.ref!r} has no package {subject.package!r}: name by --package the one "
                "that has your flows"
            )
        self.revision = revision
        self._open = lambda: WorkerProcess(python, revision.path, core, subject)
        self._process: WorkerProcess | None = self._open()

    def start(self) -> Greeting:
        """Wait for the worker; its families, and the versions and paces that each rests on.

        ValueError if the revision cannot be imported.
        """
        try:
            return self._running().ready()
        except WorkerGone as error:
            raise ValueError(
                f"{self.revision.ref!r} cannot be timed: its worker {error}"
            ) from error

    def time(self, benchmark: str, calls: int) -> Visit | str:
        """Seconds of each call; the reason if it failed, "" if the family does not exist."""
        family, _, operation = benchmark.partition("/")
        try:
            answer = self._running().ask({"family": family, "operation": operation, "calls": calls})
        except WorkerGone as error:
            self.close()
            return f"the worker {error}"
        return "" if "missing" in answer else answer.get("error", answer)

    def _running(self) -> WorkerProcess:
        self._process = self._process or self._open()
        return self._process

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.close()
        self._process = None


@dataclass
class Measurement:
    """The blocks of a benchmark and their judgement, or why there are none.

    ``declared`` are the versions and paces that its family rests on, on either side; None where
    a revision declares none.
    """

    blocks: list[Block] = field(default_factory=list)
    judgement: Judgement | None = None
    exception: str = ""  # appeared, vanished, failed in base, failed in new
    reason: str = ""
    declared: dict[str, dict[str, list[int]] | None] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The judgement's verdict or the exception, in one to three words."""
        return self.exception or (self.judgement.verdict if self.judgement else "too few")

    @property
    def failed(self) -> bool:
        """Whether the new revision does not run where the base does."""
        return self.verdict == f"failed in {NEW}"

    @property
    def undeclared(self) -> bool:
        """Whether the times moved while every version and pace stayed."""
        base, new = self.declared.get(BASE), self.declared.get(NEW)
        return self.verdict in ("slower", "faster") and new is not None and base == new


def compare(
    revisions: Sequence[Revision],
    pythons: Sequence[str],
    benchmarks: Sequence[str],
    *,
    seconds: float,
    factor: float,
    subject: Subject = Subject(),
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Measurement]:
    """Time two revisions, base first, for so many seconds in all; a measurement a benchmark.

    Without any benchmark the gradient of every flow of the subject is one. ValueError for a
    benchmark that neither revision has, for none, and if a revision cannot be imported. A module
    of the subject that cannot be is a measurement that failed.
    """
    deadline, core = time.monotonic() + seconds, _idlest_core()
    workers: dict[str, RevisionWorker] = {}
    try:
        for side, revision, python in zip((BASE, NEW), revisions, pythons, strict=True):
            workers[side] = RevisionWorker(revision, python, core, subject)
        progress("starting both revisions")
        greetings = {side: worker.start() for side, worker in workers.items()}
        measurements = {
            module: Measurement(exception=f"failed in {side}", reason=reason)
            for side, greeting in reversed(greetings.items())  # the base's fault is not the new's
            for module, reason in greeting.faults.items()
        }
        if not (names := benchmarks or _every(greetings.values())) and not measurements:
            raise ValueError(f"neither revision registers a flow in {subject.name}")
        measurements |= {name: Measurement(declared=_declared(greetings, name)) for name in names}
        times = {n: t for n in names if (t := _trial(workers, n, measurements[n]))}

        def ask(side: str, name: str, calls: int) -> Visit | None:
            answer = workers[side].time(name, calls)
            if isinstance(answer, str):
                measurements[name].exception = f"failed in {side}"
                measurements[name].reason = answer
                return None
            return answer

        for name, block in blocks(ask, times, deadline, Random(seed)):
            measurements[name].blocks.append(block)
            progress(f"block {sum(len(m.blocks) for m in measurements.values())}")
    finally:
        for worker in workers.values():
            worker.close()
    ratios = {
        name: log_ratios(m.blocks)
        for name, m in measurements.items()
        if m.blocks and not m.exception
    }
    for name, judgement in judge(ratios, factor).items():
        measurements[name].judgement = judgement
    return measurements


def _every(greetings: Iterable[Greeting]) -> list[str]:
    """A benchmark of each flow of the subject in either revision."""
    families = sorted({family for greeting in greetings for family in greeting.families})
    return select(families) if families else []


def _declared(
    greetings: Mapping[str, Greeting], name: str
) -> dict[str, dict[str, list[int]] | None]:
    """The versions and paces of a benchmark's family on either side."""
    return {side: g.declared.get(name.partition("/")[0]) for side, g in greetings.items()}


def _trial(workers: Mapping[str, RevisionWorker], name: str, measurement: Measurement) -> float:
    """Seconds of a call on the slower side; 0 if the benchmark does not run on both sides."""
    answers = {side: workers[side].time(name, TRIAL) for side in (BASE, NEW)}
    if answers == {BASE: "", NEW: ""}:
        raise ValueError(f"neither revision has the flow of {name!r}")
    failures = {side: a for side, a in answers.items() if isinstance(a, str) and a}
    for side, reason in reversed(failures.items()):  # a failure of the base is not the new side's
        measurement.exception, measurement.reason = f"failed in {side}", reason
    if not failures and "" in answers.values():
        measurement.exception = "appeared" if answers[BASE] == "" else "vanished"
    times = [min(a["processor"]) for a in answers.values() if not isinstance(a, str)]
    return 0.0 if measurement.exception else max(times)


def _idlest_core() -> int | None:
    """The least loaded core that this process may use; None if processes cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = os.sched_getaffinity(0)
    load = dict(enumerate(psutil.cpu_percent(IDLE_WINDOW, percpu=True)))
    return min(allowed, key=lambda core: load.get(core, 0.0))
