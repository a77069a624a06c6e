"""The command ``flowgauge choose``: which flow for a table, within some minutes."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import psutil
from rich.console import Console
from rich.table import Table
from typer import Exit, Option

from benchmarks.cli.console import (
    PRINTED,
    WIDEST,
    check_writable,
    console,
    say,
    usage_errors,
    write,
)
from benchmarks.cli.options import (
    File,
    JsonFile,
    KeepWeights,
    Plugin,
    Texts,
    check_table,
    complete_flows,
    flows_of,
    load_plugins,
    on_table,
)
from benchmarks.cli.run import Display, ending, report_of
from benchmarks.core.case import Case
from benchmarks.core.formats import plain
from benchmarks.core.naming import counted
from benchmarks.core.record import Record

if TYPE_CHECKING:
    from benchmarks.execution.plan import Task
    from benchmarks.execution.suite import Suite
    from benchmarks.studies.choose.plan import Deadline, Plan
    from benchmarks.studies.choose.ranking import Choice
    from benchmarks.studies.frontier.entries import Entrant

EFFORT = 2e9  # FLOPs a second of the mixture's fit, which gets the seconds of a family

FLOW = "A flow, a pattern or a file of flows, in place of all; repeatable."
MINUTES = "Minutes on the clock for all, on all cores."
OUT = "Results folder (default: results/choose-<file>)."


class OutOfTime(Exception):
    """The minutes are over."""


@on_table
def choose(
    selection: Any,
    minutes: Annotated[float, Option(min=0.1, help=MINUTES)] = 10.0,
    json_file: JsonFile = None,
    out: Annotated[File, Option(help=OUT)] = None,
    flow: Annotated[Texts, Option(help=FLOW, autocompletion=complete_flows)] = None,
    plugin: Plugin = None,
    keep_weights: KeepWeights = False,
) -> None:
    """Find the flow that gives the best density of a table, within minutes.

    Families get equal seconds: a search of sizes, learning rates and preprocessing by validation,
    then one longer training that is scored on test rows. Exit status: 0 there is an answer, 1 no
    flow was trained to its end, 2 wrong usage, or a table without a density.
    """
    process = psutil.Process()
    started = time.monotonic() - (time.time() - process.create_time())
    with usage_errors():
        from benchmarks import datasets
        from benchmarks.core.study import registry
        from benchmarks.datasets.tables import admit
        from benchmarks.execution.run import most_jobs
        from benchmarks.studies.choose.plan import SLOWEST, Deadline, Plan, entrants

        if not console.is_terminal:
            console.width = WIDEST
        if json_file == PRINTED:
            console.stderr = True  # standard output is the answer's alone
        check_writable(json_file)
        registered = load_plugins(plugin)
        name = check_table(selection, status=2)
        admit(name)
        jobs, passed = most_jobs(1), time.monotonic() - started
        slow = min(SLOWEST, max(1.0, passed / sum(process.cpu_times()[:2])))
        left = 60 * minutes - (time.monotonic() - started)
        dim, width = datasets.dim(name), datasets.context_dim(name)
        listed = entrants(dim, flows_of(flow or ()), width, registered)
        folder = out or Path("results") / f"choose-{selection.path.stem.partition('.')[0]}"
        before = earlier(folder, name, minutes, listed)
        if before:
            say(f"going on with what is in {folder}")
        plan = before.plan if before else Plan.of(left, jobs, len(listed), slow)
        suite = suite_of(name, minutes, plan, listed)
        _announce(plan, listed, jobs)
        ends, walls = started + 60 * minutes, (plan.places, plan.wall(jobs, slow))
        given = before.seconds if before else 0.0
        registry["choose"].deadline = deadline = Deadline(ends, jobs, slow, *walls, given)
    _measure(suite, folder, deadline, keep_weights, before)
    with usage_errors():
        drawn, choice = report_of(folder), _choice_of(folder)
        _print(choice)
        say(drawn)
        if json_file is not None:
            content = _as_json(choice, folder, ", ".join(selection.target) or None)
            write(json_file, json.dumps(content, indent=2, allow_nan=False) + "\n")
    raise Exit(0 if choice.flows else 1)


def _measure(
    suite: Suite, folder: Path, deadline: Deadline, keep_weights: bool, before: Earlier | None
) -> None:
    """Measure until all is done, or the time is over: then what is not done is given up."""
    from benchmarks.execution.run import Asked, run

    again = before is not None
    asked = Asked(again, jobs=deadline.jobs, keep_weights=keep_weights)
    chooser = Chooser(console, *([before.best] if before else []))
    with ending(), suppress(OutOfTime), _watched(deadline), chooser:
        run(suite, folder, chooser, asked)


class Chooser(Display):
    """The progress of a run, with the best training so far by validation."""

    def __init__(self, console: Console, best: tuple[str, float] = ("", -math.inf)) -> None:
        super().__init__(console, estimates=False)  # the minutes are given
        self._lead(*best)

    def _lead(self, label: str, score: float) -> None:
        self.score = score
        self.leader = f"best so far: {label}, {score:.3f} nats in validation" if label else ""
        self.prefix = f"{self.leader} | " if label else ""

    def case(self, task: Task, case: Case, record: Record) -> None:
        """Count a case, and name it where it is the best so far by validation."""
        label = case.settings.get("label")
        score = record.metrics["val_ll"].median if "val_ll" in record.metrics else -math.inf
        leads = bool(label) and score > self.score
        if leads:
            self._lead(str(label), score)
        super().case(task, case, record)
        if leads and not self.console.is_terminal:
            self.console.print(self.leader)


@contextmanager
def _watched(deadline: Deadline) -> Iterator[None]:
    """Raise OutOfTime in the block once the time is over, which is looked at every second."""

    def look(*_: object) -> None:
        if deadline.left < -1:  # nothing is late by less
            signal.setitimer(signal.ITIMER_REAL, 0)
            console.print("the time is over: what is not done is left out", style="yellow")
            raise OutOfTime

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def suite_of(name: str, minutes: float, plan: Plan, listed: Sequence[Entrant]) -> Suite:
    """The suite of a plan for a table and the flows that are asked for, the first of them first."""
    from benchmarks import datasets
    from benchmarks.execution.suite import Suite
    from benchmarks.studies.choose.plan import batch

    entered, left_out = listed[: plan.families], listed[plan.families :]
    study = {
        "study": "choose",
        "datasets": [name],
        "flows": [entrant.model_dump(mode="json", exclude_defaults=True) for entrant in entered],
        "baselines": ["gaussian", {"flow": "mixture", "effort": EFFORT * plan.of_family}],
        "batch": batch(len(datasets.load(name).train)),
        "configurations": plan.configurations,
        "places": plan.places,
        "seconds": plan.trial,
        "final_seconds": plan.final,
        "minutes": minutes,
        "left_out": [entrant.flow for entrant in left_out],
    }
    title = plain(f"choose {Path(name.partition(':')[0]).name}")[:99]
    values: dict[str, Any] = {"name": title, "threads": 1, "time_limit": 60 * minutes}
    values |= {"about": f"Which flow for {name}: {minutes:g} min.", "studies": (study,)}
    return Suite.model_validate(values)


@dataclass(frozen=True)
class Earlier:
    """A run that another continues: its plan, the seconds of its finals, its best by validation.

    Zero seconds where it has no final yet.
    """

    plan: Plan
    seconds: float
    best: tuple[str, float]

    @classmethod
    def of(cls, plan: Plan, records: Sequence[Record]) -> Self:
        """Read the records of a plan."""
        trained = [r for r in records if r.status == "done" and "label" in r.case.settings]
        finals = [r.case.settings for r in trained if r.case.settings["stage"] == "final"]
        seconds = max((float(settings["training"]["clock"]) for settings in finals), default=0.0)
        scores = [(r.metrics["val_ll"].median, str(r.case.settings["label"])) for r in trained]
        score, label = max(scores, default=(-math.inf, ""))
        return cls(plan, seconds, (label, score))


def earlier(folder: Path, name: str, minutes: float, listed: Sequence[Entrant]) -> Earlier | None:
    """The run that a folder holds if its question was the same, and it had time for its trials."""
    from benchmarks.core import store
    from benchmarks.execution import suite as suites
    from benchmarks.studies.choose.plan import Plan

    if suites.planned(str(folder)) is None:
        return None
    with suppress(ValueError, KeyError, TypeError):
        before = suites.read(str(folder))
        (study,) = before.studies
        values = (study[key] for key in ("configurations", "places", "seconds", "final_seconds"))
        plan = Plan(len(study["flows"]), *values)
        again = suite_of(name, minutes, plan, listed)
        if again.model_dump(mode="json") == before.model_dump(mode="json"):
            keys = {case.key for case in again.cases()}
            records = [record for key, record in store.read(folder).items() if key in keys]
            late = [record for record in records if record.status == "skipped"]
            if not any(record.case.settings.get("stage") == "trial" for record in late):
                return Earlier.of(plan, records)
    return None


def _announce(plan: Plan, listed: Sequence[Entrant], jobs: int) -> None:
    """Print which flows are compared, for how long each, and which are left out."""
    names = [entrant.flow for entrant in listed]
    entered, left_out = names[: plan.families], names[plan.families :]
    trials = f"{counted(plan.configurations, 'trial')} of {plan.trial:.1f} s"
    cores = counted(jobs, "core")
    say(f"{', '.join(entered)} on {cores}: for each {trials}, then about {plan.final:.0f} s")
    if left_out:
        say(f"left out for want of time: {', '.join(left_out)}")


def _choice_of(folder: Path) -> Choice:
    """The choice that the records of a folder's plan make."""
    from benchmarks.report import runs
    from benchmarks.studies.choose.ranking import choices

    (run,) = runs.read([folder])
    return choices(run.frame[run.frame["study"] == "choose"])[0]


def _print(choice: Choice) -> None:
    """Print the ranking, the answer and what to know of it."""
    from benchmarks.report.cells import grid
    from benchmarks.studies.choose.tables import COLUMNS, TERMINAL, ranking, rows_of

    cells = grid(ranking(choice))
    places = [place for place, name in enumerate(COLUMNS) if name in TERMINAL]
    table = Table(box=None)
    for place, column in enumerate(COLUMNS.values()):
        if place in places:
            side: Literal["left", "right"] = "right" if cells.numeric[place] else "left"
            table.add_column(column.label, justify=side, no_wrap=True)
    for row in cells.rows:
        table.add_row(*(row[place].text for place in places))
    console.print(table)
    units = "Nats; ± half of the 95 % interval over test rows; seconds of updates."
    say(f"{rows_of(choice)}{units}")
    if choice.flows:
        best = choice.flows[0]
        say(f"{best.name}: {best.configuration}")
    say("")
    say(choice.answer, "bold")
    for warning in choice.warnings:
        say(f"warning: {warning}", "yellow")


def _as_json(choice: Choice, folder: Path, target: str | None) -> dict[str, Any]:
    """The answer as JSON; a flow whose weights were kept names their folder."""
    from benchmarks.core import store

    def entries(ranking: Sequence[Any]) -> Iterator[dict[str, Any]]:
        for ranked in ranking:
            path = folder / "weights" / ranked.row["key"]
            case = store.read_one(folder, ranked.row["key"]).case
            yield ranked.as_json(case, str(path) if path.is_dir() else None)

    return {
        "answer": choice.answer,
        "warnings": choice.warnings,
        "ranking": list(entries(choice.flows)),
        "baselines": list(entries(choice.baselines)),
        "data": choice.data,
        "target": target,
        "rows": choice.about,
        "report": str(folder / "report" / "index.html"),
    }
