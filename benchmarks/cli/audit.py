"""The command ``flowgauge audit``: the conformance kit on the families of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from benchmarks.cli.console import bar, console, errors, fail, styled, usage_errors, write
from benchmarks.cli.options import Plugin, load_plugins

if TYPE_CHECKING:
    from benchmarks.audit.plan import Scope
    from benchmarks.audit.session import Judged
    from flows.packages import Library

FILE = Path("results/audit/audit.json")


def audit(
    libraries: Annotated[
        list[str] | None, typer.Argument(help="Libraries to audit (default: all installed).")
    ] = None,
    json_file: Annotated[
        Path, typer.Option("--json", help="File of the rows, written as it goes and resumed.")
    ] = FILE,
    quick: Annotated[
        bool, typer.Option("--quick", help="D = 2 and 3, float64 and moved parameters alone.")
    ] = False,
    against: Annotated[
        Path | None, typer.Option(help="An audit's rows; status 1 if a verdict differs from them.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Families judged at a time (default: the cores).")
    ] = None,
    plugin: Plugin = None,
) -> None:
    """Run the conformance kit on every family of other libraries, and confirm what fails.

    Writes the rows, beside them the scripts that show each failure without flowgauge, and a page in
    Markdown. Exit status: 0 done, 1 a verdict differs (with --against), 2 wrong usage.
    """
    with usage_errors():
        from benchmarks.audit import comparison, ledger, page, plan, session
        from benchmarks.core.naming import counted
        from benchmarks.measure.machine import cores

        load_plugins(plugin)
        if against is not None and against.resolve() == json_file.resolve():
            raise ValueError(f"--against {str(against)!r} is the file that --json writes: name two")
        before = ledger.read(against) if against else []
        listed = plan.libraries(libraries or ())
        installed = [library for library in listed if not library.fault]
        for library in listed:
            if library.fault:
                errors.print(f"{library.name} {library.fault}: {library.remedy}", soft_wrap=True)
        if not installed:
            fail("no library to audit is installed")
        scope = plan.QUICK if quick else plan.FULL
        book = ledger.Ledger(json_file)
        with Display(installed, scope) as display:
            for judged in session.audit(installed, scope, book, jobs or len(cores())):
                display.show(judged)
        text = page.page(book.rows, book.scripts)
        write(json_file.with_suffix(".md"), text)
        console.print(page.summary(book.rows), soft_wrap=True)
    if against is not None:
        names = {library.name for library in installed}
        after = [row for row in book.rows if row["library"] in names]
        lines = comparison.changes(before, after, scope)
        for line in comparison.versions(before, after):
            console.print(line, soft_wrap=True)
        for line in lines:
            console.print(styled(line, "red"), soft_wrap=True)
        console.print(f"{counted(len(lines), 'change')} of verdicts")
        raise typer.Exit(1 if lines else 0)


class Display:
    """Show an audit: a live bar with the family that was judged last, or a line for each task."""

    def __init__(self, libraries: list[Library], scope: Scope) -> None:
        families = sum(len(library.members) for library in libraries)
        self.total = families * len(scope.dims) * len(scope.dtypes) * len(scope.parameters)
        self.done = self.failed = 0
        self.bar = bar(console)
        versions = ", ".join(f"{library.name} {library.version}" for library in libraries)
        console.print(f"{families} families of {versions}", soft_wrap=True)

    def __enter__(self) -> Self:
        self.bar.start()
        self.task = self.bar.add_task("starting", total=self.total, failed="")
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def show(self, judged: Judged) -> None:
        """Count a task, and name what failed in it."""
        task, self.done = judged.task, self.done + 1
        failures = [row for row in judged.rows if row["passed"] is False]
        self.failed += len(failures)
        name = f"{task['family']}, D = {task['dim']}, {task['dtype']}, {task['parameters']}"
        failed = f"{self.failed} failed" if self.failed else ""
        self.bar.update(self.task, completed=self.done, description=name, failed=failed)
        if not console.is_terminal:
            names = ", ".join(row["row"] for row in failures)
            console.print(f"{name}: {'failed: ' + names if names else 'passed'}", soft_wrap=True)
