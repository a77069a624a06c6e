"""The command ``flowgauge check``: the conformance kit on flows, files and whole libraries."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import math
import signal
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
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
    from benchmarks.measure.fresh import Helper
    from flows import Conformance
    from flows.conformance import Outcome

DIMS = (1, 2, 3, 10)
DTYPES = ("float64", "float32")
NAMED = 5  # rows of a failure in the summary
STYLES = {"pass": "green", "not applicable": "dim", "fail": "bold red"}  # the worst last

Row = dict[str, Any]  # of a library: where it was judged (PLACE), row, figure, bound, passed
PLACE = ("library", "version", "family", "dim", "dtype", "parameters")
FIELDS = (*PLACE, "row", "figure", "bound", "passed")
LARGE, LARGE_WITHIN = 64, 3.0  # a dimension, judged where the one before took so many seconds
FULL = {"dim": (2, 3, 10, LARGE), "dtype": DTYPES, "parameters": ("initial", "moved")}
QUICK = {"dim": (2, 3), "dtype": ("float64",), "parameters": ("moved",)}
LIMIT, PATIENCE = 16.0, 6  # seconds of the processor for one judgement; as many times on the clock
LATE = "time limit"


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
    from benchmarks.measure import fresh
    from flows import members, names

    chosen = flows_of(patterns or names())
    values = _parse(chosen, options)
    faults.check({"dim": list(dims), "set": values}, "check")
    if csv_file is not None:
        check_writable(csv_file)  # fail before anything is measured
    results = []
    with closing(fresh.Helper()) as helper:
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
        failed += [f"{name} ({fault})" for name, fault in members.left_out.items()]
    inapplicable = sum(not _judged(c) for c in results)
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
        result: Conformance = helper.call(_check, name, dim, values)
    except RuntimeError as error:
        return Conformance(name, dim, (Outcome("process", "", None, None, "fail", str(error)),))
    return result


def _check(name: str, dim: int, values: dict[str, Any]) -> Conformance:
    import flows

    shorten_warnings()
    return flows.check(name, dim=dim, **values)


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
    from benchmarks.measure import fresh
    from flows.conformance import libraries

    earlier = read_rows(against) if against else []
    chosen = [libraries.library(name) for name in dict.fromkeys(names)]
    if json_file is not None:
        if against is not None and against.resolve() == json_file.resolve():
            raise ValueError(f"--against {str(against)!r} is the file that --json writes: name two")
        write_rows(json_file, [])  # fail before anything is measured
    rows: list[Row] = []
    outcome = f"the rows so far are in {json_file}" if json_file else "no rows were written"
    with clean_interrupt(outcome), closing(fresh.Helper()) as helper:
        for library, family in ((one, name) for one in chosen for name in one.members):
            start = {"library": library.name, "version": library.version, "family": family}
            for judgement in _judgements(helper, start, scope):
                rows += judgement
                if json_file is not None:
                    write_rows(json_file, rows)
                failed = ", ".join(row["row"] for row in judgement if row["passed"] is False)
                verdict = styled(f"failed: {failed}", "red") if failed else styled("passed")
                console.print(Text.assemble(_named(judgement[0]), ": ", verdict), soft_wrap=True)
    failures = sum(row["passed"] is False for row in rows)
    versions = ", ".join(f"{library.name} {library.version}" for library in chosen)
    console.print(f"{versions}: {counted(len(rows), 'row')}, {failures} failed", soft_wrap=True)
    if against is None:
        return bool(failures)
    within = [r for r in earlier if r["library"] in names and all(r[k] in scope[k] for k in scope)]
    before = dict.fromkeys(f"{row['library']} {row['version']}" for row in within)
    lines = changes(within, rows)
    for line in lines:
        console.print(styled(line, "red"), soft_wrap=True)
    console.print(
        f"{counted(len(lines), 'verdict')} changed since {', '.join(before)}", soft_wrap=True
    )
    return bool(lines)


def _judgements(
    helper: Helper, start: Row, scope: Mapping[str, Sequence[Any]]
) -> Iterator[list[Row]]:
    """Rows of a family at one size after another, until one takes too long."""
    spent = 0.0
    for dim in scope["dim"]:
        if dim == LARGE and spent > LARGE_WITHIN:
            return
        begun = time.monotonic()
        for dtype, parameters in itertools.product(scope["dtype"], scope["parameters"]):
            place = {**start, "dim": dim, "dtype": dtype, "parameters": parameters}
            rows = [{**place, **outcome} for outcome in _outcomes(helper, place)]
            yield rows
            if any(row["row"] == LATE for row in rows):
                return
        spent = time.monotonic() - begun


def _outcomes(helper: Helper, place: Row) -> list[Row]:
    """The outcomes of a judgement; where it ends its process, those before, and that as one."""
    end: list[Row] = []
    with NamedTemporaryFile("r") as file:
        try:
            helper.call(_judge, file.name, LIMIT, *(place[key] for key in PLACE[2:]))
        except RuntimeError as error:
            late = str(error).endswith(("SIGPROF", "SIGALRM"))
            name, bound = (LATE, LIMIT) if late else ("process", None)
            end = [{"row": name, "figure": None, "bound": bound, "passed": False}]
        return [json.loads(line) for line in file] + end


def _judge(path: str, limit: float, family: str, dim: int, dtype: str, parameters: str) -> None:
    """Judge a family and write each outcome as a line of a file; killed by a timer where late.

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
            figures = {"figure": _rounded(outcome.value), "bound": _rounded(outcome.bound)}
            if passed is not None or outcome.name == "construction":
                line = {"row": outcome.name, **figures, "passed": passed}
                print(json.dumps(line), file=file, flush=True)

        sizes, how = libraries.options(family), {"moved": parameters == "moved", "report": report}
        signal.setitimer(signal.ITIMER_PROF, limit)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * limit)
        try:
            flows.check(family, dim=dim, dtypes=[getattr(torch, dtype)], **how, **sizes)
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
    from benchmarks.core import parts

    text = "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"
    data = text.encode()
    parts.replace(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def changes(before: Iterable[Row], after: Iterable[Row]) -> list[str]:
    """A line for each verdict that differs where both have judged a family, and have not been late.

    A family that one of them lacks is one line. Figures may differ.
    """
    old, new = _verdicts(before), _verdicts(after)
    families = [{place[1] for place in verdicts} for verdicts in (old, new)]
    lines = [f"{family}: no rows before" for family in sorted(families[1] - families[0])]
    lines += [f"{family}: no rows now" for family in sorted(families[0] - families[1])]
    words = {True: "passed", False: "failed", None: "not applicable"}
    for place in (place for place in old if place in new):
        was, now = old[place], new[place]
        if LATE in was or LATE in now:
            continue
        where = _named(dict(zip((*PLACE[:1], *PLACE[2:]), place, strict=True)))
        for name in {**was, **now}:
            verdicts = [words[rows[name]] if name in rows else "no row" for rows in (was, now)]
            if verdicts[0] != verdicts[1]:
                lines.append(f"{where}, {name}: {verdicts[0]} before, {verdicts[1]} now")
    return lines


def _verdicts(rows: Iterable[Row]) -> dict[tuple[Any, ...], dict[str, bool | None]]:
    """Whether each row passed, by library, family, dimension, dtype and parameters."""
    verdicts: dict[tuple[Any, ...], dict[str, bool | None]] = {}
    for row in rows:
        place = tuple(row[key] for key in PLACE if key != "version")
        verdicts.setdefault(place, {})[row["row"]] = row["passed"]
    return verdicts


def _named(row: Row) -> str:
    return f"{row['family']}, D = {row['dim']}, {row['dtype']}, {row['parameters']} parameters"
