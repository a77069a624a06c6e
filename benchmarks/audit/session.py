"""One audit: families are judged side by side, each failure shown to be the library's own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from time import monotonic
from typing import Any

from benchmarks.audit.ledger import TASK, WHERE, Ledger, Row, plain
from benchmarks.audit.plan import LARGE, Scope, complete, options
from benchmarks.audit.scripts import ESTIMATES, script, terms
from benchmarks.audit.worker import Lost, Worker
from benchmarks.measure.machine import memory_bytes
from flows.conformance.subject import FACTOR, LOOSEST
from flows.packages import Library
from flows.registry import needed

LARGE_WITHIN = 3.0  # seconds that all of one dimension may take for the large one to follow
LATE, CRASH = "time limit", "crash"  # rows of what was not judged


@dataclass(frozen=True)
class Judged:
    """A task with its rows, and the scripts of those that failed."""

    task: Row
    rows: list[Row]
    scripts: list[Row]


def audit(
    libraries: Sequence[Library], scope: Scope, ledger: Ledger, jobs: int
) -> Iterator[Judged]:
    """Judge every family of these libraries, ``jobs`` at a time, and yield each task as it is done.

    Tasks whose rows of the same version are in the ledger are left out. A process that dies or
    takes longer than the scope's limit is a row.
    """
    families: queue.SimpleQueue[tuple[Library, str]] = queue.SimpleQueue()
    for library in libraries:
        ledger.forget(library.name, str(library.version))
        for family in library.members:
            families.put((library, family))
    events: queue.SimpleQueue[Judged | BaseException | None] = queue.SimpleQueue()
    memory = int(0.8 * memory_bytes() / jobs)
    desks = [Desk(scope, ledger, memory, events.put) for _ in range(jobs)]
    threads = [threading.Thread(target=desk.work, args=(families,)) for desk in desks]
    for thread in threads:
        thread.start()
    try:
        working = len(threads)
        while working:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                working -= 1
            else:
                ledger.add(event.rows, event.scripts)
                yield event
    finally:
        for desk in desks:
            desk.stop()
        for thread in threads:
            thread.join()


class Desk:
    """One place of work: a process that judges, and one that runs scripts."""

    def __init__(
        self, scope: Scope, ledger: Ledger, memory: int, report: Callable[[Any], None]
    ) -> None:
        self.scope, self.done, self.report = scope, ledger.tasks, report
        self.shown = {_anywhere(row) for row in ledger.rows if row["confirmed"]}
        self.judge, self.reproducer = Worker("judge", memory, needed()), Worker("reproduce", memory)
        self.stopped = False

    def stop(self) -> None:
        """End the processes, from another thread."""
        self.stopped = True
        for worker in (self.judge, self.reproducer):
            worker.kill()

    def work(self, families: queue.SimpleQueue[tuple[Library, str]]) -> None:
        """Judge families until none is left."""
        try:
            while not self.stopped:
                library, family = families.get_nowait()
                self._family(library, family)
        except queue.Empty:
            pass
        except BaseException as error:
            if not self.stopped:
                self.report(error)
        for worker in (self.judge, self.reproducer):
            worker.stop()
        self.report(None)

    def _family(self, library: Library, family: str) -> None:
        spent = 0.0
        for dim in self.scope.dims:
            if dim == LARGE and spent > LARGE_WITHIN:
                return
            start = monotonic()
            for dtype, parameters in product(self.scope.dtypes, self.scope.parameters):
                values = (library.name, str(library.version), family, dim, dtype, parameters)
                if values in self.done:
                    continue
                judged = self._judge(dict(zip(TASK, values, strict=True)))
                self.report(judged)
                if any(row["row"] == LATE for row in judged.rows):
                    return  # larger ones take longer
            spent = monotonic() - start

    def _judge(self, task: Row) -> Judged:
        family, dim, dtype = task["family"], task["dim"], task["dtype"]
        moved = task["parameters"] == "moved"
        try:
            request = family, dim, dtype, moved, options(task["library"], family)
            outcomes, spent = self.judge.ask(request, self.scope.limit)
            if spent:  # what the library changed in its process cannot be undone
                self.judge.stop()
        except Lost as loss:
            name, limit = (LATE, self.scope.limit) if loss.timed_out else (CRASH, None)
            outcomes = [*loss.sent, (name, None, limit, "fail", str(loss))]
        judged = Judged(task, [], [])
        for name, figure, bound, status, note in filter(_applies, outcomes):
            passed = None if status == "not applicable" else status == "pass"
            row = {**task, "row": name, "figure": plain(figure), "bound": plain(bound)}
            row |= {"passed": passed, "confirmed": None}
            if passed is False:
                row["confirmed"] = not excused(row) and _anywhere(row) in self.shown
                if not row["confirmed"] and not excused(row):
                    script = self._reproduced(row, note)
                    row["confirmed"] = script["confirmed"]
                    judged.scripts.append(script)
                if row["confirmed"]:
                    self.shown.add(_anywhere(row))
            judged.rows.append(row)
        return judged

    def _reproduced(self, row: Row, note: str) -> Row:
        """The script by which the library's own flow shows a failure, and what it printed."""
        where = {key: row[key] for key in ("dim", "dtype", "parameters")}
        names = row["library"], row["family"], row["row"]
        text = script(*names, **where, options=complete(*names[:2]))
        output, confirmed = "", False
        if text is not None:
            try:
                _, (output, error) = self.reproducer.ask(text, self.scope.limit)
                confirmed = shows(output, error, row, note)
                output = "\n".join(filter(None, (output, error)))
            except Lost as loss:
                output, confirmed = str(loss), row["row"] == CRASH and not loss.timed_out
        entry = {"family": row["family"], "row": row["row"], **where, "confirmed": confirmed}
        return {**entry, "note": note, "script": text, "output": output}


def _anywhere(row: Row) -> tuple[Any, ...]:
    """A row but for its dimension: a fault that one has shown needs no script at a larger one."""
    return tuple(row[field] for field in WHERE if field != "dim")


def _applies(outcome: tuple[Any, ...]) -> bool:
    """Whether a row is to be written: of those that do not apply only a refusal to build."""
    return bool(outcome[3] != "not applicable" or outcome[0] == "construction")


def shows(output: str, error: str, row: Row, note: str) -> bool:
    """Whether a script has the kit's failure: a figure beyond the bound, or the same error."""
    if row["row"] != "interface" and row["bound"] is None:
        return bool(error) and error.partition(":")[0] == note.partition(":")[0]
    if error:
        return False
    figures = [
        value for value in (row.get("figure"), float(output.split()[-1])) if value is not None
    ]
    return not any(float(figure) <= allowed(row) for figure in figures)


def excused(row: Row) -> bool:
    """Whether a family need not satisfy a row, or does so to the tolerance that it states."""
    own, figure = terms(row["library"], row["family"]), row.get("figure")
    estimate = own["estimated"] and row["row"] in ESTIMATES
    within = figure is not None and figure <= allowed(row)
    return row["row"] in own["excused"] or estimate or within


def allowed(row: Row) -> float:
    """The bound of a row, or what the tolerance that its library states leaves, if that is more.

    Those are the kit's factors for ODEs, of which it knows the tolerance.
    """
    tolerance = float(terms(row["library"], row["family"])["tolerance"])
    factor = 1e6 if row["row"].startswith("gradient") else FACTOR
    return max(float(row["bound"] or 0), min(float(factor) * tolerance, LOOSEST))
