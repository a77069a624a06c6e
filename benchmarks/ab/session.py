"""A duel: a worker of each revision, blocks until the time is up, and the verdicts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import psutil

from benchmarks.ab.checkouts import Revision
from benchmarks.ab.judgement import Judged, judge, log_ratios
from benchmarks.ab.link import Link, Lost
from benchmarks.ab.schedule import BASE, NEW, Block, Visit, blocks

TRIAL = 5  # calls before the first block, which say how long one takes
LOOKED = 0.2  # seconds in which the idlest core is looked for


class Side:
    """One revision's worker, started anew where it was lost."""

    def __init__(self, revision: Revision, python: str, core: int | None) -> None:
        self.revision = revision
        self._open = lambda: Link(python, revision.path, core)
        self._link: Link | None = self._open()

    def start(self) -> None:
        """Have the worker ready; ValueError where the revision cannot be imported."""
        try:
            self._worker().ready()
        except Lost as lost:
            raise ValueError(f"{self.revision.ref!r} cannot be timed: its worker {lost}") from lost

    def time(self, benchmark: str, calls: int) -> dict[str, list[float]] | str:
        """Seconds of each call; a sentence where there are none, "" where it does not exist."""
        family, _, operation = benchmark.partition("/")
        try:
            answer = self._worker().ask({"family": family, "operation": operation, "calls": calls})
        except Lost as lost:
            self.close()
            return f"the worker {lost}"
        return "" if "missing" in answer else answer.get("error", answer)

    def _worker(self) -> Link:
        self._link = self._link or self._open()
        return self._link

    def close(self) -> None:
        """End the worker."""
        if self._link is not None:
            self._link.close()
        self._link = None


@dataclass
class Outcome:
    """What became of a benchmark: its blocks and judgement, or the word and the reason why not."""

    blocks: list[Block] = field(default_factory=list)
    judged: Judged | None = None
    word: str = ""  # appeared, vanished, failed in base, failed in new
    reason: str = ""

    @property
    def verdict(self) -> str:
        """One or two words."""
        return self.word or (self.judged.verdict if self.judged else "too few")

    @property
    def worse(self) -> bool:
        """Whether the new revision is slower, or does not work where the base does."""
        return self.verdict in ("slower", f"failed in {NEW}")


def duel(
    revisions: Sequence[Revision],
    pythons: Sequence[str],
    benchmarks: Sequence[str],
    *,
    seconds: float,
    factor: float,
    seed: int = 0,
    told: Callable[[str], None] = lambda text: None,
) -> dict[str, Outcome]:
    """Time two revisions, base first, for so many seconds in all; an outcome of each benchmark.

    ValueError for a benchmark that neither has, and where a side cannot run at all.
    """
    deadline, core = time.monotonic() + seconds, _idlest()
    sides: dict[str, Side] = {}
    try:
        for name, revision, python in zip((BASE, NEW), revisions, pythons, strict=True):
            sides[name] = Side(revision, python, core)
        found = {name: Outcome() for name in benchmarks}
        told("starting both revisions")
        for side in sides.values():
            side.start()
        times = {name: t for name in benchmarks if (t := _trial(sides, name, found[name]))}

        def ask(side: str, name: str, calls: int) -> Visit | None:
            answer = sides[side].time(name, calls)
            if isinstance(answer, str):
                found[name].word, found[name].reason = f"failed in {side}", answer
                return None
            return answer

        for name, block in blocks(ask, times, deadline, Random(seed)):
            found[name].blocks.append(block)
            told(f"block {sum(len(outcome.blocks) for outcome in found.values())}")
    finally:
        for side in sides.values():
            side.close()
    measured = {n: log_ratios(o.blocks) for n, o in found.items() if o.blocks and not o.word}
    for name, judged in judge(measured, factor).items():
        found[name].judged = judged
    return found


def _trial(sides: dict[str, Side], name: str, outcome: Outcome) -> float:
    """Seconds of a call on the slower side; 0 where there is a side without it."""
    answers = {side: sides[side].time(name, TRIAL) for side in (BASE, NEW)}
    if answers == {BASE: "", NEW: ""}:
        raise ValueError(f"neither revision has the flow of {name!r}")
    failed = {side: a for side, a in answers.items() if isinstance(a, str) and a}
    for side, reason in reversed(failed.items()):  # what failed before is not the new side's fault
        outcome.word, outcome.reason = f"failed in {side}", reason
    if not failed and "" in answers.values():
        outcome.word = "appeared" if answers[BASE] == "" else "vanished"
    times = [min(a["processor"]) for a in answers.values() if not isinstance(a, str)]
    return 0.0 if outcome.word else max(times)


def _idlest() -> int | None:
    """The core with the least to do of those that this process may use, where one can be chosen."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = os.sched_getaffinity(0)
    busy = dict(enumerate(psutil.cpu_percent(LOOKED, percpu=True)))
    return min(allowed, key=lambda core: busy.get(core, 0.0))
