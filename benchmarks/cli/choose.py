"""The command ``flowgauge choose``: which flow for a table, within some minutes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psutil
import typer

from benchmarks.cli.choice import as_json, choice_of, show
from benchmarks.cli.console import console, errors, usage_errors, write
from benchmarks.cli.options import Flows, JsonFile, KeepWeights, Plugin, flows_of, load_plugins
from benchmarks.cli.run import ending, report_of
from benchmarks.core.formats import plain

if TYPE_CHECKING:
    from benchmarks.datasets.own import Selection
    from benchmarks.execution.suite import Suite
    from benchmarks.studies.choose.plan import Deadline, Plan
    from benchmarks.studies.frontier.entries import Entrant

EFFORT = 2e9  # FLOPs a second of the mixture's fit, which gets the seconds of a family

Columns = Annotated[list[str] | None, typer.Option(help="Columns of the density, a,b; repeatable.")]


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
        from benchmarks.execution.pools import most_jobs
        from benchmarks.studies.choose.plan import SLOWEST, Deadline, entrants

        if json_file == Path("-"):
            console.stderr = True  # standard output is the answer's alone
        elif json_file is not None:
            write(json_file, "")  # fail before anything is trained
        registered = load_plugins(plugin)
        selection = _selection(file, drop, columns, target)
        name = str(selection)
        _check(name)
        own.admit(name)
        jobs, passed = most_jobs(1), time.monotonic() - started
        slow = min(SLOWEST, max(1.0, passed / sum(process.cpu_times()[:2])))
        left = 60 * minutes - passed
        dim, width = datasets.dim(name), datasets.context_dim(name)
        listed = entrants(dim, flows_of(flow or ()), width, registered)
        suite, plan = _suite(name, minutes, left, jobs, slow, listed)
        folder = out or Path("results") / f"choose-{selection.path.stem.partition('.')[0]}"
        ends, walls = started + 60 * minutes, (plan.places, plan.wall(jobs, slow))
        registry["choose"].deadline = deadline = Deadline(ends, jobs, slow, *walls)
    _measure(suite, folder, deadline, keep_weights)
    with usage_errors():
        drawn, choice = report_of(folder), choice_of(folder)
        show(choice)
        console.print(drawn, soft_wrap=True)
        if json_file is not None:
            content = as_json(choice, folder, ", ".join(selection.target) or None)
            write(json_file, json.dumps(content, indent=2, allow_nan=False) + "\n")
    raise typer.Exit(0 if choice.flows else 1)


def _selection(
    file: str,
    drop: Sequence[str] | None,
    columns: Sequence[str] | None,
    target: Sequence[str] | None,
) -> Selection:
    """The table in its columns; ValueError for a column that it does not have."""
    from benchmarks.datasets import own
    from benchmarks.datasets.inspection import quoted

    table, given = next(iter(own.read_whole(file).values())), own.Selection.of(file)
    chosen = [
        [n for text in some or () for n in text.split(",")] for some in (columns, drop, target)
    ]
    selection = given.narrowed(table, *chosen)
    targets = selection.target
    aside = [name for name in table.attrs.get("targets", ()) if name not in selection.columns]
    note = f"the density is that of {', '.join(targets)} given the other columns" if targets else ""
    if not targets and aside:
        note = f"left out: {quoted(aside)}; --target {','.join(aside)} asks for the density given X"
    if note:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    return selection


def _check(name: str) -> None:
    """Print what is doubtful about a table; exit with 2, and all that is wrong, if it has none."""
    from benchmarks.datasets import own

    inspection = own.inspect(name)
    for fault in inspection.faults:
        errors.print(f"flowgauge: error: {name}: {fault}", style="red", soft_wrap=True)
    if inspection.faults:
        errors.print("--drop NAME leaves a column out", soft_wrap=True)
        raise typer.Exit(2)
    for remark in inspection.remarks:
        console.print(f"warning: {remark}", style="yellow", soft_wrap=True)


def _suite(
    name: str, minutes: float, left: float, jobs: int, slow: float, listed: Sequence[Entrant]
) -> tuple[Suite, Plan]:
    """The suite of a plan for the seconds that are left; what is left out is printed."""
    from benchmarks import datasets
    from benchmarks.core.naming import counted
    from benchmarks.execution.suite import Suite
    from benchmarks.studies.choose.plan import Plan, batch

    plan = Plan.of(left, jobs, len(listed), slow)
    entered, left_out = listed[: plan.families], [e.flow for e in listed[plan.families :]]
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
        "left_out": left_out,
    }
    console.print(
        f"{', '.join(e.flow for e in entered)} on {counted(jobs, 'core')}: for each "
        f"{counted(plan.configurations, 'trial')} of {plan.trial:.1f} s, then about "
        f"{plan.final:.0f} s",
        soft_wrap=True,
    )
    if left_out:
        console.print(f"left out for want of time: {', '.join(left_out)}", soft_wrap=True)
    title = plain(f"choose {Path(name.partition(':')[0]).name}")[:99]
    values: dict[str, Any] = {"name": title, "threads": 1, "time_limit": 60 * minutes}
    values |= {"about": f"Which flow for {name}: {minutes:g} min.", "studies": (study,)}
    return Suite.model_validate(values), plan


def _measure(suite: Suite, folder: Path, deadline: Deadline, keep_weights: bool) -> None:
    """Measure until all is done, or the time is over: then what is not done is given up."""
    from benchmarks.cli.progress import Chooser
    from benchmarks.execution.run import Asked, run

    asked = Asked(jobs=deadline.jobs, keep_weights=keep_weights, throughout=True)
    with ending(), suppress(OutOfTime), _watched(deadline), Chooser(console) as display:
        run(suite, folder, display, asked)


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
