"""The command ``flowgauge choose``: which flow for a table, within some minutes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psutil
import typer

from benchmarks.cli.choice import as_json, choice_of, show
from benchmarks.cli.console import check_writable, console, usage_errors, write
from benchmarks.cli.options import Flows, JsonFile, KeepWeights, Plugin, flows_of, load_plugins
from benchmarks.cli.question import (
    Earlier,
    announce,
    check_table,
    earlier,
    selected,
    suite_of,
)
from benchmarks.cli.run import ending, report_of

if TYPE_CHECKING:
    from benchmarks.execution.suite import Suite
    from benchmarks.studies.choose.plan import Deadline

Columns = Annotated[list[str] | None, typer.Option(help="Columns of the density, a,b; repeatable.")]

WIDEST = 500  # characters of a line that has to fit no terminal


class OutOfTime(Exception):
    """The minutes are over."""


def choose(
    file: Annotated[str, typer.Argument(help="A table in a file.")],
    minutes: Annotated[
        float, typer.Option(min=0.1, help="Minutes on the clock for all, on all cores.")
    ] = 10.0,
    drop: Annotated[
        list[str] | None, typer.Option(help="Columns that are left out, a,b; repeatable.")
    ] = None,
    columns: Columns = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Columns whose density given the others is found, a,b; repeatable."),
    ] = None,
    json_file: JsonFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Results folder (default: results/choose-<file>).")
    ] = None,
    flow: Flows = None,
    plugin: Plugin = None,
    keep_weights: KeepWeights = False,
) -> None:
    """Find the flow that gives the best density of a table, in so many minutes.

    Families get equal seconds: a search of sizes, learning rates and preprocessing by validation,
    then one longer training that is scored on test rows. Exit status: 0 there is an answer, 1 no
    flow was trained to its end, 2 wrong usage, or a table without a density.
    """
    process = psutil.Process()
    started = time.monotonic() - (time.time() - process.create_time())
    with usage_errors():
        from benchmarks import datasets
        from benchmarks.core.study import registry
        from benchmarks.datasets import own
        from benchmarks.execution.run import most_jobs
        from benchmarks.studies.choose.plan import SLOWEST, Deadline, Plan, entrants

        if not console.is_terminal:
            console.width = WIDEST
        if json_file == Path("-"):
            console.stderr = True  # standard output is the answer's alone
        elif json_file is not None:
            check_writable(json_file)  # fail before anything is trained
        registered = load_plugins(plugin)
        selection = selected(file, drop, columns, target)
        name = str(selection)
        check_table(name)
        own.admit(name)
        jobs, passed = most_jobs(1), time.monotonic() - started
        slow = min(SLOWEST, max(1.0, passed / sum(process.cpu_times()[:2])))
        left = 60 * minutes - (time.monotonic() - started)
        dim, width = datasets.dim(name), datasets.context_dim(name)
        listed = entrants(dim, flows_of(flow or ()), width, registered)
        folder = out or Path("results") / f"choose-{selection.path.stem.partition('.')[0]}"
        before = earlier(folder, name, minutes, listed)
        if before:
            console.print(f"going on with what is in {folder}", soft_wrap=True)
        plan = before.plan if before else Plan.of(left, jobs, len(listed), slow)
        suite = suite_of(name, minutes, plan, listed)
        announce(plan, listed, jobs)
        ends, walls = started + 60 * minutes, (plan.places, plan.wall(jobs, slow))
        given = before.seconds if before else 0.0
        registry["choose"].deadline = deadline = Deadline(ends, jobs, slow, *walls, given)
    _measure(suite, folder, deadline, keep_weights, before)
    with usage_errors():
        drawn, choice = report_of(folder), choice_of(folder)
        show(choice)
        console.print(drawn, soft_wrap=True)
        if json_file is not None:
            content = as_json(choice, folder, ", ".join(selection.target) or None)
            write(json_file, json.dumps(content, indent=2, allow_nan=False) + "\n")
    raise typer.Exit(0 if choice.flows else 1)


def _measure(
    suite: Suite, folder: Path, deadline: Deadline, keep_weights: bool, before: Earlier | None
) -> None:
    """Measure until all is done, or the time is over: then what is not done is given up."""
    from benchmarks.cli.progress import Chooser
    from benchmarks.execution.run import Asked, run

    again = before is not None
    asked = Asked(again, jobs=deadline.jobs, keep_weights=keep_weights)
    chooser = Chooser(console, *([before.best] if before else []))
    with ending(), suppress(OutOfTime), _watched(deadline), chooser:
        run(suite, folder, chooser, asked)


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
