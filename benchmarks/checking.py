"""The command ``flowgauge check``: the conformance kit on registered flows and on files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from benchmarks.console import Plugin, console, load_plugins, usage_errors

if TYPE_CHECKING:
    from flows import Conformance
    from flows.conformance import Outcome

DIMS = (1, 2, 3, 10)
DTYPES = ("float64", "float32")
STYLES = {"pass": "green", "not applicable": "dim", "fail": "bold red"}  # the worst last

Flows = Annotated[
    list[str] | None,
    typer.Argument(help="Names of flows, or Python files that register some (default: all)."),
]
Dims = Annotated[
    list[int] | None, typer.Option("--dim", min=1, help="Dimension; repeatable (1, 2, 3, 10).")
]
Options = Annotated[
    list[str] | None, typer.Option("-s", "--set", help="option=value of the flow; repeatable.")
]
Csv = Annotated[Path | None, typer.Option("--csv", help="A file to write every figure to.")]


def check(
    flows: Flows = None,
    dim: Dims = None,
    options: Options = None,
    plugin: Plugin = None,
    csv_file: Csv = None,
) -> None:
    """Judge flows by the conformance kit: is it a density, and does it behave as one?

    Exit status: 0 all passed, 1 some row failed, 2 wrong usage.
    """
    with usage_errors():
        import flows as library
        from benchmarks.suite import override

        load_plugins(plugin)
        chosen: dict[str, Any] = {}
        for text in options or ():
            override(chosen, text)
        names = [name for said in flows or library.names() for name in _names(said)]
        found = []
        for name in names:
            for d in dim or DIMS:
                with console.status(f"{name}, D = {d}"):
                    conformance = library.check(name, dim=d, **chosen)
                console.print(_table(conformance))
                found.append(conformance)
        if csv_file is not None:
            _write(csv_file, found)
    failed = [f"{c.flow} at D = {c.dim}" for c in found if not c.passed]
    what = f"{_count(len(names), 'flow')} at {_count(len(dim or DIMS), 'dimension')}"
    console.print(f"{what}: {'failed: ' + ', '.join(failed) if failed else 'all passed'}")
    raise typer.Exit(1 if failed else 0)


def _names(said: str) -> list[str]:
    """The flow of that name, or those that a file registers; ValueError where there are none."""
    from flows import members
    from flows.registry import load_plugin

    if not said.endswith(".py"):
        return [said]
    module = load_plugin(said).__name__
    names = [name for name in members if members.module_of(name) == module]
    if not names:
        raise ValueError(f"{said!r} registers no flow: decorate one with @flows.register")
    return names


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _table(conformance: Conformance) -> Table:
    """A line for each row: its figure and bound in both dtypes, and what came of them."""
    verdict = "[green]passed[/]" if conformance.passed else "[bold red]FAILED[/]"
    title = f"{conformance.flow}, D = {conformance.dim}: {verdict}"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("Figure ≤ bound", no_wrap=True)
    for dtype in DTYPES:
        table.add_column(dtype, no_wrap=True)
    table.add_column("Status", overflow="fold")
    for name, outcomes in groupby(conformance.rows, key=lambda row: row.name):
        of = {row.dtype: row for row in outcomes}
        worst = max(of.values(), key=lambda row: list(STYLES).index(row.status))
        note = "" if worst.status == "pass" else f": {worst.note}".rstrip(": ")
        figures = [_figure(of[dtype]) if dtype in of else "" for dtype in DTYPES]
        table.add_row(name, *figures, f"[{STYLES[worst.status]}]{worst.status}[/]{escape(note)}")
    return table


def _figure(row: Outcome) -> str:
    return "" if row.value is None else f"{row.value:.1e} ≤ {row.bound:.0e}"


def _write(path: Path, found: Sequence[Conformance]) -> None:
    """Every row of every table, in full precision; ValueError where that cannot be written."""
    header = ("flow", "dim", "row", "dtype", "figure", "bound", "status", "note")
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for c in found:
                for r in c.rows:
                    figures = (r.value, r.bound)
                    writer.writerow((c.flow, c.dim, r.name, r.dtype, *figures, r.status, r.note))
    except OSError as error:
        raise ValueError(f"cannot write {str(path)!r}: {error.strerror}") from error
