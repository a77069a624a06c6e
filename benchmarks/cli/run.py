"""The command ``flowgauge run``: measure what is missing of a suite, and draw its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table

from benchmarks.cli.console import INTERRUPTED, console, fail, usage_errors
from benchmarks.cli.options import on_suite

if TYPE_CHECKING:
    from benchmarks.core.case import Case
    from benchmarks.execution.suite import Suite


@on_suite
def run(
    plan: Any,
    folder: Path,
    retry: Annotated[bool, typer.Option("--retry", help="Measure failed cases again.")] = False,
    renew_times: Annotated[
        bool,
        typer.Option(
            "--renew-times",
            help="Measure cases again whose times are of another machine class or torch.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cases and stop.")] = False,
) -> None:
    """Measure a suite and draw its report; goes on where an earlier run stopped.

    Exit status: 0 all cases done, 1 some failed, 2 wrong usage or configuration.
    """
    with usage_errors():
        cases = plan.cases()
        if dry_run:
            from benchmarks.core.naming import labels
            from benchmarks.execution.constructed import faults

            for key, reason in faults(cases).items():
                raise ValueError(f"case {labels(cases)[key]!r}: {reason}")
            _print_plan(cases)
            return
    measure(plan, folder, retry, renew_times)


def measure(suite: Suite, folder: Path, retry: bool = False, renew_times: bool = False) -> NoReturn:
    """Measure what is missing, draw the report, and exit: 0 if all cases are done, else 1."""
    from benchmarks import report
    from benchmarks.cli.progress import Display
    from benchmarks.core.naming import counted
    from benchmarks.core.parts import FolderError
    from benchmarks.execution.run import run
    from benchmarks.report.facts import noise

    try:
        with Display(console) as display:
            result = run(suite, folder, display, retry=retry, renew_times=renew_times)
    except FolderError as error:
        fail(str(error))
    except KeyboardInterrupt:
        console.print("interrupted: what was measured is kept, and the next run goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    old_failures = len(result.failed - display.measured)
    planned = [result.records[c.key] for c in result.cases if c.key in result.records]
    for warning in noise(planned)[1:]:
        console.print(f"note: {warning}", style="yellow")
    page = report.write(folder)
    done, failed = len(result.done), len(result.cases) - len(result.done)
    if old_failures and not retry:
        note = f"{counted(old_failures, 'case')} failed in an earlier run: --retry measures again"
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    if elsewhere := len(result.elsewhere & result.done):
        note = f"{elsewhere} cases have times of another machine class or torch: --renew-times"
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    console.print(f"{done} done, {failed} not; report: {page}", soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def _print_plan(cases: Sequence[Case]) -> None:
    """Print the cases with their expected durations."""
    from benchmarks.core.naming import counted, duration, labels
    from benchmarks.core.study import registry

    total, names = 0.0, labels(cases)
    table = Table("Key", "Case", "Batch", "Updates", "Time")
    for case in cases:
        budget = registry[case.study].budget(case)
        total += budget
        updates = str(case.updates or "")
        table.add_row(case.key, names[case.key], str(case.batch), updates, duration(budget))
    console.print(table)
    console.print(f"{counted(len(cases), 'case')}, about {duration(total)}")
