"""The command ``flowgauge check``: the conformance kit on registered flows and on files."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from benchmarks.cli import completion
from benchmarks.cli.console import (
    check_writable,
    console,
    shorten_warnings,
    styled,
    usage_errors,
    write,
)
from benchmarks.cli.options import Plugin, flows_of, load_plugins
from benchmarks.core.formats import cell

if TYPE_CHECKING:
    from benchmarks.measure.process import Helper
    from flows import Conformance
    from flows.conformance import Outcome

DIMS = (1, 2, 3, 10)
DTYPES = ("float64", "float32")
NAMED = 5  # rows of a failure in the summary
STYLES = {"pass": "green", "not applicable": "dim", "fail": "bold red"}  # the worst last

Flows = Annotated[
    list[str] | None,
    typer.Argument(
        help="Names or patterns of flows, or Python files that register flows (default: all).",
        autocompletion=completion.flows,
    ),
]
Dims = Annotated[
    list[int] | None,
    typer.Option("--dim", help="Dimension; repeatable (default: 1, 2, 3, 10)."),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "-s",
        "--set",
        help="option=value for every flow (`flowgauge list` has the options), or parameters=N.",
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option("--csv", help="Write every figure to a CSV file: flow, dim, row, dtype, ..."),
]
Brief = Annotated[
    bool, typer.Option("--brief", help="Of each table the verdict and the rows that failed alone.")
]


def check(
    flows: Flows = None,
    dim: Dims = None,
    options: Options = None,
    plugin: Plugin = None,
    csv_file: Csv = None,
    brief: Brief = False,
) -> None:
    """Check by the conformance kit whether flows are densities and behave as such.

    A flow that takes a context is judged with and without one. One that ends its process fails,
    and so do, where all flows are judged, plug-ins that cannot be imported.

    Exit status: 0 all passed, 1 some row failed, 2 wrong usage.
    """
    with usage_errors():
        import flows as library
        from benchmarks.core.naming import counted
        from benchmarks.execution import faults
        from benchmarks.measure.process import Helper

        load_plugins(plugin)
        names = flows_of(flows or library.names())
        values = _parse(names, options)
        dims = list(dict.fromkeys(dim or DIMS))
        if min(dims) < 1:
            raise ValueError(f"--dim {min(dims)}: a dimension is 1 or more")
        faults.check({"dim": dims, "set": values}, "check")
        if csv_file is not None:
            check_writable(csv_file)  # fail before anything is measured
        results = []
        with closing(Helper()) as helper:
            for name, d in itertools.product(names, dims):
                with console.status(styled(f"{name}, D = {d}")):
                    results.append(_checked(helper, name, d, values))
                _print(results[-1], brief)
                if csv_file is not None:
                    write(csv_file, _csv(results))
    own = [member for name in names if (member := library.members[name]).library is None]
    for member in own:
        if member.undeclared:
            sizes = ", ".join(member.undeclared)
            console.print(
                f"{member.name} takes {sizes}, which was not looked at: name it in `uses`, as in "
                f"@flows.register({member.name!r}, uses={(*member.uses, *member.undeclared)})",
                soft_wrap=True,
            )
    failed = _failures(results)
    if not flows:
        failed += [
            f"plug-in {name!r} ({fault})" for name, fault in library.members.left_out.items()
        ]
    inapplicable = sum(not _judged(c) for c in results)
    scope = f"{counted(len(names), 'flow')} at {counted(len(dims), 'dimension')}"
    unseen = " as far as it was looked at" if any(member.undeclared for member in own) else ""
    verdict = f"failed: {'; '.join(failed)}" if failed else f"all passed{unseen}"
    console.print(f"{scope}: {verdict}{f', {inapplicable} not applicable' if inapplicable else ''}")
    if failed:
        console.print("docs/conformance.md says what each row judges", style="dim")
    raise typer.Exit(1 if failed else 0)


def _parse(names: Sequence[str], options: Sequence[str] | None) -> dict[str, Any]:
    """Parse option=value texts; ValueError for an option that some flow does not have."""
    from benchmarks.execution.suite import override
    from flows import members

    values: dict[str, Any] = {}
    for text in options or ():
        override(values, text)
    if "dim" in values:
        raise ValueError("the dimension is set by --dim")
    for name in names:
        members[name].complete({k: v for k, v in values.items() if k != "parameters"})
    return values


def _checked(helper: Helper, name: str, dim: int, values: dict[str, Any]) -> Conformance:
    """Check a flow in a helper; where it ends that process this is its one row."""
    from flows.conformance import Conformance, Outcome

    try:
        rows = helper.call(_check, name, dim, values)
    except RuntimeError as error:
        return Conformance(name, dim, (Outcome("process", "", None, None, "fail", str(error)),))
    return Conformance(name, dim, tuple(Outcome(**row) for row in rows))


def _check(name: str, dim: int, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a flow, in a helper's process."""
    import flows

    shorten_warnings()
    return [asdict(row) for row in flows.check(name, dim=dim, **values).rows]


def _judged(conformance: Conformance) -> bool:
    """Whether any row applies to the flow at this dimension."""
    return any(row.status != "not applicable" for row in conformance.rows)


def _failures(results: Sequence[Conformance]) -> list[str]:
    """Each flow that failed, its dimensions, and the first of the rows that failed at them."""
    dims: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for c in results:
        if not c.passed:
            names = tuple(dict.fromkeys(row.name for row in c.failed))
            dims.setdefault((c.flow, names), []).append(c.dim)
    failures = []
    for (flow, names), where in dims.items():
        rest = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        rows = ", ".join([*names[:NAMED], *rest])
        failures.append(f"{flow} at D = {', '.join(map(str, where))} ({rows})")
    return failures


def _print(conformance: Conformance, brief: bool) -> None:
    """Print a table of the rows without a context, and one of those with."""
    from flows.conformance import GIVEN

    plain = [row for row in conformance.rows if not row.name.endswith(GIVEN)]
    given = [
        replace(row, name=row.name.removesuffix(GIVEN))
        for row in conformance.rows
        if row.name.endswith(GIVEN)
    ]
    _print_rows(replace(conformance, rows=tuple(plain)), "", brief)
    if given:
        _print_rows(replace(conformance, rows=tuple(given)), GIVEN, brief)


def _print_rows(conformance: Conformance, suffix: str, brief: bool) -> None:
    """Print a line for each row with its figures and bounds, then each reason once.

    In ``brief`` for the rows that failed alone.
    """
    verdict = ("passed", "green") if conformance.passed else ("FAILED", "bold red")
    verdict = verdict if _judged(conformance) else ("not applicable", "dim")
    subject = styled(f"{conformance.flow}, D = {conformance.dim}{suffix}: ")
    title = Text.assemble(subject, verdict, style="italic")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    dtypes = [d for d in DTYPES if any(row.dtype == d for row in conformance.rows)]
    for header in ("Row", *(f"{dtype} ≤ bound" for dtype in dtypes), "Status"):
        table.add_column(header, no_wrap=True)
    notes: dict[str, list[str]] = {}
    for name, outcomes in itertools.groupby(conformance.rows, key=lambda row: row.name):
        by_dtype = {row.dtype: row for row in outcomes}
        worst = max(by_dtype.values(), key=lambda row: list(STYLES).index(row.status))
        if brief and worst.status != "fail":
            continue
        figures = [_figure(by_dtype[dtype]) if dtype in by_dtype else "" for dtype in dtypes]
        table.add_row(name, *figures, styled(worst.status, STYLES[worst.status]))
        if worst.note and (worst.status == "fail" or not _judged(conformance)):
            notes.setdefault(worst.note, []).append(name)
    console.print(table if table.row_count else title)
    for note, (name, *others) in notes.items():
        rows = f"{name} and {len(others)} more" if others else name
        console.print(f"  {rows}: {note}", soft_wrap=True)


def _figure(row: Outcome) -> str:
    return "" if row.value is None else f"{row.value:.1e} ≤ {row.bound:.0e}"


def _csv(results: Sequence[Conformance]) -> str:
    """Every row of every table as CSV, in full precision."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("flow", "dim", "row", "dtype", "figure", "bound", "status", "note"))
    for c in results:
        for r in c.rows:
            names = (cell(c.flow), c.dim, cell(r.name), r.dtype)
            writer.writerow((*names, r.value, r.bound, r.status, cell(r.note)))
    return text.getvalue()
