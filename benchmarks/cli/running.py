"""Running a suite from the command line: with its progress, to its report and exit status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from benchmarks.cli.console import console, fail

if TYPE_CHECKING:
    from benchmarks.execution.suite import Suite


def carry_out(
    suite: Suite, folder: Path, plugins: Sequence[Path] | None, retry: bool = False
) -> NoReturn:
    """Measure what is missing, draw the report, and end with 0 where all cases are done, else 1."""
    from benchmarks import report
    from benchmarks.cli.progress import Shown
    from benchmarks.execution.run import FolderError, run
    from benchmarks.report.facts import noise

    try:
        with Shown(console) as shown:
            paths = [str(path) for path in plugins or ()]
            result = run(suite, folder, shown, plugins=paths, retry=retry)
    except FolderError as error:
        fail(str(error))
    except KeyboardInterrupt:
        console.print("interrupted: what was measured is kept, and the next run goes on from there")
        raise typer.Exit(130) from None
    planned = [result.records[c.key] for c in result.cases if c.key in result.records]
    for warning in noise(planned)[1:]:
        console.print(f"note: {warning}", style="yellow")
    page = report.write(folder)
    done, failed = len(result.valid), len(result.cases) - len(result.valid)
    console.print(f"{done} done, {failed} not; report: {page}", soft_wrap=True)
    raise typer.Exit(1 if failed else 0)
