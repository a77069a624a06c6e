"""Progress of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import TextColumn

from benchmarks.cli.console import bar
from benchmarks.core.case import Case
from benchmarks.core.formats import plain
from benchmarks.core.naming import counted, duration, labels
from benchmarks.core.record import Record

if TYPE_CHECKING:
    from benchmarks.execution.plan import Task


class Display:
    """Show a run on a console: a cluster's workers, current case, done and failed cases, time left.

    The time left is the budget of the remaining cases, scaled by the ratio of time to budget so
    far.
    """

    estimates = True  # whether it says beforehand how long the run takes

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = bar(console, TextColumn("{task.fields[left]}"))
        self.total = self.finished = self.failures = 0
        self.budget = self.spent = 0.0
        self.measured: set[str] = set()  # keys
        self.running: dict[str, Task] = {}  # by key of a case
        self.started = time.monotonic()
        self.crew = self.reason = ""

    def __enter__(self) -> Self:
        self.bar.start()
        self.bar_task = self.bar.add_task("starting", total=None, failed="", left="")
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def begin(self, cases: Sequence[Case], kept: int, budget: float) -> None:
        """Start a run of these cases, and name those whose flow cannot be constructed."""
        from benchmarks.execution.plan import faults_of_flows

        self.total, self.budget, self.started = len(cases), budget, time.monotonic()
        self.labels = labels(cases)
        self.bar.update(self.bar_task, total=len(cases))
        left = f", about {duration(budget)}" if cases and self.estimates else ""
        self.console.print(
            f"{counted(len(cases), 'case')} to measure{left}; {kept} kept from before"
        )
        for key, reason in faults_of_flows(cases, each_dim=False).items():
            self.console.print(f"note: {self.labels[key]}: {reason}", style="yellow")

    def task(self, task: Task) -> None:
        """Name the tasks that are being measured."""
        self.running |= {case.key: task for case in task.cases}
        self._describe()

    def waiting(self, reason: str) -> None:
        """Say what the run waits for."""
        self.bar.update(self.bar_task, description=reason)
        if reason != self.reason and not self.console.is_terminal:
            self.console.print(reason, soft_wrap=True)
        self.reason = reason

    def workers(self, count: int) -> None:
        """Show how many workers a cluster has."""
        before, self.crew = self.crew, f"{counted(count, 'worker')}: "
        if self.crew != before and not self.console.is_terminal:
            self.console.print(counted(count, "worker"))
        self._describe()

    def case(self, task: Task, case: Case, record: Record) -> None:
        """Count a case whose record was written."""
        from benchmarks.execution.plan import budget

        self.running.pop(case.key, None)
        self._describe()
        self.measured.add(case.key)
        self.spent += budget(case)
        elapsed = time.monotonic() - self.started
        left = max(0.0, self.budget - self.spent) * elapsed / max(self.spent, 1e-9)
        self.finished += 1
        self.failures += record.status != "done"
        failed = f"{self.failures} failed" if self.failures else ""
        self.bar.update(
            self.bar_task, completed=self.finished, failed=failed, left=f"{duration(left)} left"
        )
        label = self.labels[case.key]
        count = f"[{self.finished}/{self.total}]"
        if record.status != "done":
            self.console.print(f"{count} {label}: {record.status}: {record.reason}", style="red")
        elif not self.console.is_terminal:
            source = record.notes.get("same_as")
            took = f"as {source}" if source else f"{record.seconds:.1f} s"
            self.console.print(f"{count} {label}: {took}")

    def _describe(self) -> None:
        """Name one of the cases that are being measured, and how many others."""
        keys = list(self.running)
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        text = plain(self.labels[keys[0]]) + more if keys else "starting"
        self.reason = ""
        self.bar.update(self.bar_task, description=self.crew + text)


class Chooser(Display):
    """The progress of a run, with the best training so far by validation."""

    estimates = False  # the minutes are given

    def __init__(self, console: Console, best: tuple[str, float] = ("", -math.inf)) -> None:
        super().__init__(console)
        self.best, self.record = best

    def case(self, task: Task, case: Case, record: Record) -> None:
        """Count a case, and name it where it is the best so far by validation."""
        label = case.settings.get("label")
        score = record.metrics["val_ll"].median if "val_ll" in record.metrics else -math.inf
        leads = bool(label) and score > self.record
        if leads:
            self.best, self.record = str(label), score
        super().case(task, case, record)
        if leads and not self.console.is_terminal:
            self.console.print(self._leader)

    @property
    def _leader(self) -> str:
        return f"best so far: {self.best}, {self.record:.3f} nats in validation"

    def _describe(self) -> None:
        super()._describe()
        if self.best:
            text = self.bar.tasks[self.bar_task].description
            self.bar.update(self.bar_task, description=f"{self._leader} | {text}")
