"""The commands ``flowgauge history``: figures of commit after commit, and the steps in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.cli.console import clean_interrupt, console, errors, styled, usage_errors, write

app = typer.Typer(no_args_is_help=True, help="Figures of commit after commit, and their steps.")
HERE = Path()
File = Annotated[Path, typer.Option("--file", help="The history: a line of JSON a commit.")]
FILE = Path("results/history/history.jsonl")
PAGE = Path("results/history/index.html")
Metrics = Annotated[
    list[str] | None, typer.Argument(help="Metrics whose trends are listed; without, all steps.")
]


@app.callback()
def commands() -> None:
    """Keep the figures of commit after commit, and find the steps in them."""


@app.command()
def add(
    sources: Annotated[
        list[Path], typer.Argument(help="Results folders, or history files (.jsonl) to merge.")
    ],
    file: File = FILE,
    dirty: Annotated[
        bool, typer.Option("--dirty", help="Take records of a tree with changes too.")
    ] = False,
) -> None:
    """Append what the history lacks: the figures of results folders, the lines of other histories.

    A folder is added at the commit that its records name; adding it again adds nothing. Exit
    status: 0, 2 for what cannot be added.
    """
    with usage_errors():
        from benchmarks.core.naming import counted
        from benchmarks.history import file as history
        from benchmarks.history.snapshot import of_folder

        new: list[str] = []
        for source in sources:
            if source.suffix == ".jsonl":
                new += [s.line() for s in history.read(source, HERE).snapshots]
            else:
                new.append(of_folder(source, HERE, dirty=dirty).line())
        missing = history.append(file, new)
    known = len({*new}) - len(missing)
    console.print(f"{counted(len(missing), 'line')} added to {file}, {known} there already")


@app.command()
def measure(
    revisions: Annotated[
        list[str], typer.Argument(help="Commits, branches, tags, or ranges such as v1..main.")
    ],
    suite: Annotated[
        str, typer.Option(help="A suite's name or TOML file; each revision has to accept it.")
    ] = "history",
    file: File = FILE,
    again: Annotated[
        bool, typer.Option("--again", help="Measure commits too that the history has.")
    ] = False,
    limit: Annotated[float, typer.Option(min=1, help="Seconds that one commit may take.")] = 600,
) -> None:
    """Measure revisions, each by its own code, and append their figures to the history.

    Each is laid out in a worktree of its own. It runs in this environment if that has what it
    declares, else in one of its own. A revision that cannot be measured is a line with the reason.
    Exit status: 0, 1 if some could not be measured, 2 wrong usage.
    """
    with usage_errors(), clean_interrupt("commits that were measured are kept"):
        from benchmarks.execution.suite import file_of
        from benchmarks.history import file as history
        from benchmarks.history.measuring import commits
        from benchmarks.history.measuring import measure as measured

        path = file_of(suite).resolve()
        known = history.read(file, HERE).snapshots if file.is_file() else []
        present = {s.commit for s in known if s.suite == path.stem and not s.reason}
        failed = 0
        for commit in commits(revisions, HERE):
            if commit in present and not again:
                console.print(f"{commit[:8]} is there already (--again measures it once more)")
                continue
            with errors.status(styled(f"measuring {commit[:8]}")):
                snapshot = measured(commit, path, HERE, limit=limit)
            history.append(file, [snapshot.line()])
            outcome = snapshot.reason or f"{len(snapshot.cases)} cases"
            console.print(f"{snapshot.name} {snapshot.subject}: {outcome}", soft_wrap=True)
            failed += bool(snapshot.reason)
    raise typer.Exit(1 if failed else 0)


@app.command()
def show(metrics: Metrics = None, file: File = FILE) -> None:
    """Print the steps in the history, named by their commits; of METRIC ... their trends too.

    Exit status: 0, 2 wrong usage.
    """
    with usage_errors():
        from benchmarks.core.metrics import defined
        from benchmarks.history import rendering
        from benchmarks.history.file import read
        from benchmarks.history.steps import steps
        from benchmarks.history.trends import trends

        names = [*map(str, metrics or ())]
        for name in names:
            defined(name)
        history = read(file, HERE)
        listed = trends(history.snapshots, names)
        changes = steps(history, listed)
    if names:
        _print(rendering.TRENDS, [rendering.trend(trend) for trend in listed])
    _print(rendering.CUTS, rendering.cuts(history, listed))
    _print(rendering.STEPS, [rendering.step(change) for change in changes])
    for line in rendering.summary(history, listed, changes):
        console.print(line, soft_wrap=True)


@app.command()
def page(
    out: Annotated[Path, typer.Argument(help="The page to write.")] = PAGE,
    file: File = FILE,
) -> None:
    """Write the history as one HTML page: steps, and a trend for each metric and case."""
    with usage_errors():
        from benchmarks.history.file import read
        from benchmarks.history.page import render

        text = render(read(file, HERE))
        out.parent.mkdir(parents=True, exist_ok=True)
        write(out, text)
    console.print(str(out), soft_wrap=True)


def _print(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table unless it is empty."""
    table = Table()
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header == "Commit")
    for cells in rows:
        table.add_row(*cells)
    if rows:
        console.print(table)
