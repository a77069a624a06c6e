"""The command ``flowgauge check``: the conformance kit on registered flows and on files."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from benchmarks.cli.console import Plugin, console, load_plugins, named, usage_errors

if TYPE_CHECKING:
    from flows import Conformance
    from flows.conformance import Outcome

DIMS = (1, 2, 3, 10)
DTYPES = ("float64", "float32")
STYLES = {"pass": "green", "not applicable": "dim", "fail": "bold red"}  # the worst last

Flows = Annotated[
    list[str] | None,
    typer.Argument(help="Names or patterns of flows, or Python files that register some; all."),
]
Dims = Annotated[
    list[int] | None,
    typer.Option("--dim", help="Dimension; repeatable (default: 1, 2, 3, 10)."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", help="option=value of every flow (see list), or parameters=N."),
]
Csv = Annotated[
    Path | None,
    typer.Option("--csv", help="A CSV file for every figure: flow, dim, row, dtype, ..."),
]


def check(
    flows: Flows = None,
    dim: Dims = None,
    options: Options = None,
    plugin: Plugin = None,
    csv_file: Csv = None,
) -> None:
    """Judge flows by the conformance kit: are they densities, and do they behave as such?

    Exit status: 0 all passed, 1 some row failed, 2 wrong usage.
    """
    with usage_errors():
        import flows as library
        from benchmarks.core.naming import counted

        load_plugins(plugin)
        names = list(dict.fromkeys(n for said in flows or library.names() for n in named(said)))
        chosen = _chosen(names, options)
        dims = list(dict.fromkeys(dim or DIMS))
        if min(dims) < 1:
            raise ValueError(f"--dim {min(dims)}: a dimension is 1 or more")
        if csv_file is not None:
            _write(csv_file, [])  # before anything is measured: can it be?
        found = []
        for name, d in itertools.product(names, dims):
            with console.status(f"{name}, D = {d}"):
                found.append(library.check(name, dim=d, **chosen))
            _print(found[-1])
            if csv_file is not None:
                _write(csv_file, found)
    failed = [f"{c.flow} at D = {c.dim}" for c in found if not c.passed]
    unasked = sum(not _judged(c) for c in found)
    what = f"{counted(len(names), 'flow')} at {counted(len(dims), 'dimension')}"
    verdict = f"failed: {', '.join(failed)}" if failed else "all passed"
    console.print(f"{what}: {verdict}{f', {unasked} not applicable' if unasked else ''}")
    raise typer.Exit(1 if failed else 0)


def _chosen(names: Sequence[str], options: Sequence[str] | None) -> dict[str, Any]:
    """The options as said; ValueError for one that is none of every flow's."""
    from benchmarks.execution.suite import override
    from flows import members

    chosen: dict[str, Any] = {}
    for text in options or ():
        override(chosen, text)
    if "dim" in chosen:
        raise ValueError("the dimension is set by --dim")
    for name in names:
        members[name].complete({k: v for k, v in chosen.items() if k != "parameters"})
    return chosen


def _judged(conformance: Conformance) -> bool:
    return any(row.status != "not applicable" for row in conformance.rows)


def _print(conformance: Conformance) -> None:
    """A line for each row, its figure and bound in both dtypes; below, why rows fail, each once."""
    verdict = "[green]passed[/]" if conformance.passed else "[bold red]FAILED[/]"
    verdict = verdict if _judged(conformance) else "[dim]not applicable[/]"
    title = f"{conformance.flow}, D = {conformance.dim}: {verdict}"
    table = Table(title=title, title_justify="left", box=None)
    for header in ("Row", *(f"{dtype} ≤ bound" for dtype in DTYPES), "Status"):
        table.add_column(header, no_wrap=True)
    notes: dict[str, list[str]] = {}
    for name, outcomes in itertools.groupby(conformance.rows, key=lambda row: row.name):
        of = {row.dtype: row for row in outcomes}
        worst = max(of.values(), key=lambda row: list(STYLES).index(row.status))
        figures = [_figure(of[dtype]) if dtype in of else "" for dtype in DTYPES]
        table.add_row(name, *figures, f"[{STYLES[worst.status]}]{worst.status}[/]")
        if worst.note and (worst.status == "fail" or not _judged(conformance)):
            notes.setdefault(worst.note, []).append(name)
    console.print(table)
    for note, (name, *others) in notes.items():
        told = f"{name} and {len(others)} more" if others else name
        console.print(f"  {told}: {note}", markup=False, soft_wrap=True)


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
