"""The command ``flowgauge check``: the conformance kit on flows, files and whole libraries."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import signal
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from benchmarks.cli.console import (
    check_writable,
    clean_interrupt,
    console,
    shorten_warnings,
    styled,
    usage_errors,
    write,
)
from benchmarks.cli.options import Plugin, complete_flows, flows_of, load_plugins
from benchmarks.core.formats import cell

if TYPE_CHECKING:
    from benchmarks.measure.process import Helper
    from flows import Conformance
    from flows.conformance import Outcome
    from flows.packages import Library

DIMS = (1, 2, 3, 10)
DTYPES = ("float64", "float32")
NAMED = 5  # rows of a failure in the summary
STYLES = {"pass": "green", "not applicable": "dim", "fail": "bold red"}  # the worst last

Row = dict[str, Any]  # of a library: where it was judged (PLACE), row, figure, bound, passed
PLACE = ("library", "version", "family", "dim", "dtype", "parameters")
FIELDS = (*PLACE, "row", "figure", "bound", "passed")
LARGE, LARGE_WITHIN = (
    64,
    3.0,
)  # a dimension that is judged if the one before took at most these seconds
FULL = {"dim": (2, 3, 10, LARGE), "dtype": DTYPES, "parameters": ("initial", "moved")}
QUICK = {"dim": (2, 3), "dtype": ("float64",), "parameters": ("moved",)}
LIMIT, PATIENCE = 16.0, 6  # seconds of the processor for one judgement; as many times on the clock
LATE, NO_ROW = "time limit", "no row"


def check(
    flows: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names or patterns of flows, or Python files that register flows (default: all).",
            autocompletion=complete_flows,
        ),
    ] = None,
    dim: Annotated[
        list[int] | None,
        typer.Option("--dim", help="Dimension; repeatable (default: 1, 2, 3, 10)."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "-s",
            "--set",
            help="option=value for every flow (`flowgauge list` has the options), or parameters=N.",
        ),
    ] = None,
    plugin: Plugin = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Write every figure to a CSV file: flow, dim, row, dtype, ..."),
    ] = None,
    brief: Annotated[
        bool, typer.Option("--brief", help="Print only the verdicts and the rows that failed.")
    ] = False,
    library: Annotated[
        list[str] | None,
        typer.Option(
            help="Check all families of a library (nflows, zuko, ...) instead; repeatable."
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Of a library: D = 2 and 3, float64, moved parameters."),
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Of a library: write the rows as they come (.json, .json.gz)."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Of a library: earlier rows; status 1 only if a verdict changed."),
    ] = None,
) -> None:
    """Check by the conformance kit whether flows are densities and behave as such.

    A flow that takes a context is judged with and without one. A flow that ends its process fails.
    Modules and plug-ins that cannot be imported fail where all flows are judged.

    Exit status: 0 all passed, 1 some row failed, 2 wrong usage.
    """
    with usage_errors():
        load_plugins(plugin)
        if min(dim or DIMS) < 1:
            raise ValueError(f"--dim {min(dim or DIMS)}: a dimension is 1 or more")
        scope = {
            **(QUICK if quick else FULL),
            **({"dim": tuple(dict.fromkeys(dim))} if dim else {}),
        }
        given = {"FLOWS": flows, "--set": options, "--csv": csv_file, "--brief": brief}
        others = {"--quick": quick, "--json": json_file, "--against": against}
        for name, value in (given if library else others).items():
            if value:
                raise ValueError(
                    f"{name} {'cannot be used with' if library else 'needs'} --library"
                )
        if library:
            failed = _check_libraries(library, scope, json_file, against)
        else:
            failed = _check_flows(flows, list(dict.fromkeys(dim or DIMS)), options, csv_file, brief)
    if failed:
        console.print("docs/conformance.md says what each row judges", style="dim")
    raise typer.Exit(1 if failed else 0)


def _check_flows(
    patterns: Sequence[str] | None,
    dims: Sequence[int],
    options: Sequence[str] | None,
    csv_file: Path | None,
    brief: bool,
) -> bool:
    """Check flows and print a table for each; whether any failed."""
    from benchmarks.core.naming import counted
    from benchmarks.execution import faults
    from benchmarks.measure.process import Helper
    from flows import members, names

    chosen = flows_of(patterns or names())
    values = _parse(chosen, options)
    faults.check({"dim": list(dims), "set": values}, "check")
    if csv_file is not None:
        check_writable(csv_file)  # fail before anything is measured
    results = []
    with closing(Helper()) as helper:
        for name, d in itertools.product(chosen, dims):
            with console.status(styled(f"{name}, D = {d}")):
                results.append(_checked(helper, name, d, values))
            _print(results[-1], brief)
            if csv_file is not None:
                write(csv_file, _csv(results))
    undeclared = [m for n in chosen if (m := members[n]).library is None and m.undeclared]
    for member in undeclared:
        console.print(
            f"{member.name} takes {', '.join(member.undeclared)}, which was not looked at: name it "
            f"in `uses`, as in @flows.register({member.name!r}, "
            f"uses={(*member.uses, *member.undeclared)})",
            soft_wrap=True,
        )
    failed = _failures(results)
    if not patterns:
        kinds = {name: "plug-in" if ":" in name else "module" for name in members.left_out}
        failed += [f"{kinds[n]} {n!r} ({fault})" for n, fault in members.left_out.items()]
    inapplicable = sum(not _applies(c) for c in results)
    scope = f"{counted(len(chosen), 'flow')} at {counted(len(dims), 'dimension')}"
    unseen = " as far as it was looked at" if undeclared else ""
    verdict = f"failed: {'; '.join(failed)}" if failed else f"all passed{unseen}"
    console.print(f"{scope}: {verdict}{f', {inapplicable} not applicable' if inapplicable else ''}")
    return bool(failed)


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
    """The outcomes of a flow, in a helper's process."""
    import flows

    shorten_warnings()
    return [asdict(row) for row in flows.check(name, dim=dim, **values).rows]


def _applies(conformance: Conformance) -> bool:
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

    for suffix in ("", GIVEN):
        rows = [row for row in conformance.rows if row.name.endswith(GIVEN) == bool(suffix)]
        if rows or not suffix:
            named = tuple(replace(row, name=row.name.removesuffix(GIVEN)) for row in rows)
            _print_rows(replace(conformance, rows=named), suffix, brief)


def _print_rows(conformance: Conformance, suffix: str, brief: bool) -> None:
    """Print a line for each row with its figures and bounds, then each reason once.

    In ``brief`` for the rows that failed alone.
    """
    verdict = ("passed", "green") if conformance.passed else ("FAILED", "bold red")
    verdict = verdict if _applies(conformance) else ("not applicable", "dim")
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
        if worst.note and (worst.status == "fail" or not _applies(conformance)):
            notes.setdefault(worst.note, []).append(name)
    console.print(table if table.row_count else title)
    for note, (name, *others) in notes.items():
        rows = f"{name} and {len(others)} more" if others else name
        console.print(f"  {rows}: {note}", soft_wrap=True)


def _figure(row: Outcome) -> str:
    return "" if row.value is None else f"{row.value:.1e} ≤ {row.bound:.0e}"


def _csv(results: Sequence[Conformance]) -> str:
    """Every row of every table as CSV, in full precision."""
    import pandas as pd

    names = ("flow", "dim", "row", "dtype", "figure", "bound", "status", "note")
    rows = [
        (cell(c.flow), c.dim, cell(r.name), r.dtype, r.value, r.bound, r.status, cell(r.note))
        for c in results
        for r in c.rows
    ]
    return str(pd.DataFrame(rows, columns=names).to_csv(index=False, lineterminator="\n"))


def _check_libraries(
    names: Sequence[str],
    scope: Mapping[str, Sequence[Any]],
    json_file: Path | None,
    against: Path | None,
) -> bool:
    """Judge the families of libraries and print a line for each judgement.

    Returns whether a row failed, or with ``against`` whether a verdict changed.
    """
    from benchmarks.core.naming import counted
    from benchmarks.measure.process import Helper
    from flows.conformance import libraries

    chosen = [libraries.library(name) for name in dict.fromkeys(names)]
    earlier = [
        row
        for row in (read_rows(against) if against else [])
        if row["library"] in names and all(row[key] in scope[key] for key in scope)
    ]
    for name in names:
        if against is not None and all(row["library"] != name for row in earlier):
            raise ValueError(f"{str(against)!r} has no rows of {name} at these sizes")
    if json_file is not None:
        if against is not None and against.resolve() == json_file.resolve():
            raise ValueError(f"--against {str(against)!r} is the file that --json writes: name two")
        write_rows(json_file, [])  # fail before anything is measured
    rows: list[Row] = []
    outcome = f"the rows so far are in {json_file}" if json_file else "no rows were written"
    with clean_interrupt(outcome), closing(Helper()) as helper:
        for judgement in itertools.chain(*(_judgements(helper, one, scope) for one in chosen)):
            rows += judgement
            if json_file is not None:
                write_rows(json_file, rows)
            failed = ", ".join(row["row"] for row in judgement if row["passed"] is False)
            verdict = styled(f"failed: {failed}" if failed else "passed", "red" if failed else "")
            console.print(Text.assemble(_named(judgement[0]), ": ", verdict), soft_wrap=True)
    failures = sum(row["passed"] is False for row in rows)
    versions = ", ".join(f"{library.name} {library.version}" for library in chosen)
    console.print(f"{versions}: {counted(len(rows), 'row')}, {failures} failed", soft_wrap=True)
    if against is None:
        return bool(failures)
    lines = changes(earlier, rows)
    for line in lines:
        console.print(styled(line, "red"), soft_wrap=True)
    before = ", ".join(dict.fromkeys(f"{row['library']} {row['version']}" for row in earlier))
    console.print(f"{counted(len(lines), 'verdict')} changed since {before}", soft_wrap=True)
    return bool(lines)


def _judgements(
    helper: Helper, library: Library, scope: Mapping[str, Sequence[Any]]
) -> Iterator[list[Row]]:
    """Rows of each family at one size after another; a family ends where it takes too long."""
    for family in library.members:
        spent, late = 0.0, False
        for dim in scope["dim"]:
            if late or (dim == LARGE and spent > LARGE_WITHIN):
                break
            start = time.monotonic()
            for dtype, parameters in itertools.product(scope["dtype"], scope["parameters"]):
                values = (library.name, library.version, family, dim, dtype, parameters)
                rows = _judged(helper, dict(zip(PLACE, values, strict=True)))
                yield rows
                if late := rows[-1]["row"] == LATE:
                    break
            spent = time.monotonic() - start


def _judged(helper: Helper, place: Row) -> list[Row]:
    """The rows of a judgement; if it ends its process, those before, and how it ended."""
    end: list[Row] = []
    with NamedTemporaryFile("r") as file:
        try:
            helper.call(_judge, file.name, LIMIT, *(place[key] for key in PLACE[2:]))
        except RuntimeError as error:
            late = str(error).endswith(("SIGPROF", "SIGALRM"))
            name, bound = (LATE, LIMIT) if late else ("process", None)
            end = [{"row": name, "figure": None, "bound": bound, "passed": False}]
        return [{**place, **row} for row in [*map(json.loads, file), *end]]


def _judge(path: str, limit: float, family: str, dim: int, dtype: str, parameters: str) -> None:
    """Judge a family and write each outcome as a line of a file; timers end the process.

    Rows that do not apply are left out, but for a refusal to be built.
    """
    import torch

    import flows
    from flows.conformance import Outcome, libraries
    from flows.plugins import described

    warnings.simplefilter("ignore")  # libraries' notices about themselves
    torch.set_num_threads(1)
    libraries.register()
    with Path(path).open("w") as file:

        def report(outcome: Outcome) -> None:
            passed = None if outcome.status == "not applicable" else outcome.status == "pass"
            if passed is not None or outcome.name == "construction":
                figure, bound = _rounded(outcome.value), _rounded(outcome.bound)
                row = {"row": outcome.name, "figure": figure, "bound": bound, "passed": passed}
                print(json.dumps(row), file=file, flush=True)

        sizes, moved = libraries.options(family), parameters == "moved"
        dtypes = [getattr(torch, dtype)]
        signal.setitimer(signal.ITIMER_PROF, limit)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * limit)
        try:
            flows.check(family, dim=dim, dtypes=dtypes, moved=moved, report=report, **sizes)
        except ValueError as error:
            report(Outcome("construction", dtype, None, None, "fail", described(error)))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _rounded(value: float | None) -> float | None:
    """A number to four digits; None for NaN and infinity, which JSON does not have."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, which may be compressed; ValueError where it has none."""
    try:
        data = path.read_bytes()
        rows = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
        if not all(set(row) == {*FIELDS} for row in rows):
            raise ValueError("each row needs " + ", ".join(FIELDS))
    except (ValueError, TypeError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{str(path)!r} is not a file of rows: {error}; write one with --json"
        ) from error
    return list(rows)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows as one JSON list, a line a row; a kill leaves the file as it was before."""
    from benchmarks.core import store

    text = "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"
    data = text.encode()
    store.replace(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def changes(before: Iterable[Row], after: Iterable[Row]) -> list[str]:
    """A line for each verdict that differs where both judged a family and neither was late.

    A family that one of them lacks is one line. Figures may differ.
    """
    old, new = _verdicts(before), _verdicts(after)
    families = [{place[1]: None for place in verdicts} for verdicts in (old, new)]
    lines = [f"{family}: no rows before" for family in families[1] if family not in families[0]]
    lines += [f"{family}: no rows now" for family in families[0] if family not in families[1]]
    for place in old:
        was, now = old[place], new.get(place, {LATE: ""})
        if LATE not in {**was, **now}:
            where = _named(dict(zip((PLACE[0], *PLACE[2:]), place, strict=True)))
            pairs = {
                name: (was.get(name, NO_ROW), now.get(name, NO_ROW)) for name in {**was, **now}
            }
            lines += [f"{where}, {k}: {a} before, {b} now" for k, (a, b) in pairs.items() if a != b]
    return lines


def _verdicts(rows: Iterable[Row]) -> dict[tuple[Any, ...], dict[str, str]]:
    """The verdict of each row, by library, family, dimension, dtype and parameters."""
    words = {True: "passed", False: "failed", None: "not applicable"}
    verdicts: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        place = tuple(row[key] for key in PLACE if key != "version")
        verdicts.setdefault(place, {})[row["row"]] = words[row["passed"]]
    return verdicts


def _named(row: Row) -> str:
    return f"{row['family']}, D = {row['dim']}, {row['dtype']}, {row['parameters']} parameters"
