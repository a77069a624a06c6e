"""The command ``flowgauge run``: measure what is missing of a suite, and draw its report."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.table import Table

from benchmarks.cli import answer
from benchmarks.cli.console import INTERRUPTED, STOPPED, console, fail, usage_errors
from benchmarks.cli.options import KeepWeights, check_data, check_device, on_suite

ENDING = (signal.SIGTERM, signal.SIGUSR1)  # what asks a run to stop at checkpoints

if TYPE_CHECKING:
    from benchmarks.core.case import Case
    from benchmarks.execution.run import Asked
    from benchmarks.execution.suite import Suite
    from benchmarks.report.content import Report


@on_suite
def run(
    plan: Any,
    folder: Path,
    retry: Annotated[
        bool, typer.Option("--retry", help="Measure failed and skipped cases again.")
    ] = False,
    renew_times: Annotated[
        bool,
        typer.Option(
            "--renew-times",
            help="Measure cases again whose times are of another machine class or torch.",
        ),
    ] = False,
    jobs: Annotated[
        str,
        typer.Option(
            help="Workers for what is not timed, each on cores of its own; auto: as many as fit."
        ),
    ] = "1",
    shard: Annotated[
        str, typer.Option(help="K/N: part K of N of the suite, equal in expected time.")
    ] = "1/1",
    scheduler: Annotated[
        str,
        typer.Option(
            help="Measure on Dask: a scheduler's address, local, or slurm (extras dask, slurm)."
        ),
    ] = "",
    phase: Annotated[
        Literal["both", "beside", "alone"],
        typer.Option(help="Measure only what runs beside others, or only what runs alone."),
    ] = "both",
    keep_weights: KeepWeights = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Draw none: `flowgauge report` does so later.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cases and their expected time, and stop.")
    ] = False,
) -> None:
    """Measure a suite and draw its report; goes on where an earlier run stopped.

    A suite that counts operators is measured anew by each run.
    Several runs, on any hosts, may share a results folder and the work. Exit status: 0 all cases
    done, 1 some failed, 2 wrong usage or configuration, 75 stopped by SIGTERM or SIGUSR1 at
    checkpoints; with --shard and --phase those of what was asked for.
    """
    with usage_errors():
        from benchmarks.execution.run import Asked
        from benchmarks.execution.tasks import Shard

        part, workers = Shard.of(shard), _jobs(jobs, plan)
        cases = part.part(plan.cases(), plan.operators)
        asked = Asked(retry, renew_times, part, workers, phase, keep_weights, scheduler)
        if dry_run:
            from benchmarks.core.naming import labels
            from benchmarks.execution.constructed import faults

            for key, reason in faults(cases).items():
                raise ValueError(f"case {labels(cases)[key]!r}: {reason}")
            _print_plan(cases, workers, plan.operators)
            _print_rest(plan, folder, asked)
            return
    measure(plan, folder, asked, draws=not no_report)


def _jobs(text: str, suite: Suite) -> int:
    """The number of workers that --jobs asks for; ValueError for none."""
    if text == "auto":
        from benchmarks.execution.pools import most_jobs

        return most_jobs(suite.threads, suite.device)
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise ValueError(f"--jobs {text!r} is neither a positive number nor auto")
    return int(text)


def measure(
    suite: Suite, folder: Path, asked: Asked | None = None, *, draws: bool = True
) -> NoReturn:
    """Measure what is missing, draw the report, and exit: 0 if all cases are done, else 1."""
    from benchmarks.cli.progress import Display
    from benchmarks.core.naming import counted
    from benchmarks.execution import claims, host
    from benchmarks.execution.pools import setups
    from benchmarks.execution.run import Asked, run
    from benchmarks.report.runs import noise

    asked = asked or Asked()
    with usage_errors():
        if asked.scheduler:
            check_scheduler(asked.scheduler)
        if asked.scheduler in ("", "local"):
            check_device(suite.device)
            check_data(suite)
            host.folder()
            claims.death()
            setups(suite, asked.jobs)
    with ending():
        with Display(console) as display:
            result = run(suite, folder, display, asked)
        drawn = report_of(folder, answer.show) if draws else "no report was drawn"
    old_failures = len(result.failed - display.measured)
    planned = [result.records[c.key] for c in result.cases if c.key in result.records]
    for warning in noise(planned)[1:]:
        console.print(f"note: {warning}", style="yellow")
    failed = len(asked.left_over(result))
    done = len(result.done | (result.pending if asked.phase == "beside" else set()))
    if old_failures and not asked.retry:
        note = f"{counted(old_failures, 'case')} failed in an earlier run: --retry measures again"
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    if elsewhere := len(result.elsewhere & result.done):
        note = f"{elsewhere} cases have times of another machine class or torch: --renew-times"
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    console.print(f"{done} done, {failed} not; {drawn}", soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


@contextmanager
def ending() -> Iterator[None]:
    """End the command where a run was stopped, or its folder or cluster cannot be used."""
    from benchmarks.core.store import FolderError
    from benchmarks.execution.pools import ClusterError, Terminated

    for number in ENDING:
        signal.signal(number, _end)
    try:
        yield
    except (FolderError, ClusterError) as error:
        fail(str(error))
    except Terminated:
        console.print("stopped: the next run goes on from the last checkpoints")
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt:
        console.print("interrupted: what was measured is kept, and the next run goes on from there")
        raise typer.Exit(INTERRUPTED) from None


def report_of(folder: Path, show: Callable[[Report], None] | None = None) -> str:
    """Draw the report of a folder and show it, unless other runs go on; what to say of it."""
    from filelock import FileLock

    from benchmarks import report
    from benchmarks.core import store
    from benchmarks.execution.claims import alive

    if alive(folder):
        return "the last run on the folder draws the report"
    if not store.is_folder(folder):
        return "nothing to report"
    with FileLock(folder / ".report.lock"):  # others may have come to their end as well
        page, content = report.draw(folder)
    if show:
        show(content)
    return f"report: {page}"


def check_scheduler(scheduler: str) -> None:
    """ValueError where the packages or commands that a scheduler needs are absent."""
    needs = {"distributed": "dask"} | ({"dask_jobqueue": "slurm"} if scheduler == "slurm" else {})
    for package, extra in needs.items():
        if find_spec(package) is None:
            raise ValueError(
                f"--scheduler {scheduler} needs the package {package}: pip install "
                f"'flowgauge[{extra}]'"
            )
    if scheduler == "slurm" and which("sbatch") is None:
        raise ValueError("--scheduler slurm: the command sbatch is not here: run where SLURM is")


def _end(*_: object) -> NoReturn:
    """Stop at checkpoints; a signal that comes twice, to the group as well, counts once."""
    from benchmarks.execution.pools import Terminated

    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise Terminated


def _print_plan(cases: Sequence[Case], jobs: int, operators: bool) -> None:
    """Print the cases with their expected durations, and that of the run."""
    from benchmarks.core.naming import duration, labels
    from benchmarks.core.study import registry

    names = labels(cases)
    table = Table("Key", "Case", "Batch", "Updates", "Time")
    for case in cases:
        budget = registry[case.study].budget(case)
        updates = str(case.updates or "")
        table.add_row(case.key, names[case.key], str(case.batch), updates, duration(budget))
    console.print(table)
    console.print(_cost(cases, jobs, operators))


def _cost(cases: Sequence[Case], jobs: int, operators: bool) -> str:
    """ "12 cases, about 1.2 h, 39 min with 2 jobs"."""
    from benchmarks.core.naming import counted, duration
    from benchmarks.core.study import registry
    from benchmarks.execution.tasks import wall_seconds

    total = duration(sum(registry[case.study].budget(case) for case in cases))
    wall = duration(wall_seconds(cases, jobs, operators))
    side_by_side = f", {wall} with {counted(jobs, 'job')}" if jobs > 1 else ""
    return f"{counted(len(cases), 'case')}, about {total}{side_by_side}"


def _print_rest(plan: Suite, folder: Path, asked: Asked) -> None:
    """Print what of a plan a run would measure, where its folder holds records."""
    from benchmarks.core import store
    from benchmarks.execution.state import state

    if store.is_folder(folder):
        now = state(plan, folder, asked.shard)
        keys = asked.wanted(plan, now)
        left = [case for case in now.cases if case.key in keys]
        what = _cost(left, asked.jobs, plan.operators) if left else "nothing"
        console.print(f"left to measure in {folder}: {what}")
