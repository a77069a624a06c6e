"""The command ``flowgauge check``: the conformance kit on flows, files and whole libraries."""

from __future__ import annotations

import gzip
import inspect
import itertools
import json
import math
import signal
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from importlib.metadata import metadata
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from rich.table import Table
from rich.text import Text
from typer import Argument, Exit, Option

from benchmarks.cli.console import (
    PRINTED,
    check_writable,
    clean_interrupt,
    console,
    say,
    shorten_warnings,
    styled,
    usage_errors,
    write,
)
from benchmarks.cli.options import (
    NUMBERS,
    File,
    Plugin,
    Texts,
    complete_flows,
    flows_of,
    load_plugins,
    numbers,
    split,
)
from benchmarks.core.formats import cell
from benchmarks.core.naming import counted

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.measure.process import Child
    from flows.conformance import Outcome
    from flows.registry import Library

DIMS = (1, 2, 3, 10)
DTYPES = ("float64", "float32")
COLUMNS = ("flow", "dim", "row", "dtype", "figure", "bound", "status", "note")  # of a CSV file
NAMED = 5  # rows of a failure in the summary
# the worst last
STYLES = {"pass": "green", "not applicable": "dim", "expected": "yellow", "fail": "bold red"}
VERDICTS = {  # of all rows
    **{"not applicable": "not applicable", "pass": "passed"},
    **{"expected": "passed, but its inverse is learned", "fail": "FAILED"},
}

LOGS = {"log-determinant", "inverse log-determinant"}
ROUNDED = 1e-4  # nats that float32 loses at most, of numbers of everyday size
FLOAT32 = (
    "the log-determinant is rounded to float32, which float64 shows: a constant or a mask has that "
    "type, as in nflows' LeakyReLU. Take the dtype of the input, or a buffer. In float32 the flow "
    "is sound, and a kink alone fails no row: no point lies on it"
)
CONTEXT = "they use the context differently, or "
CUT = "a gradient is cut or wrong: detach, .data, no_grad, or a backward pass of your own"
FAULTS: Sequence[tuple[str, str, str]] = (  # rows that fail, one that does not, why
    (
        "log-determinant, inverse log-determinant",
        "log_prob of samples",
        "both log-determinants are off alike, points and samples agree: a term is missing, or has "
        "the wrong sign, in both directions",
    ),
    ("log-determinant", "inverse log-determinant", "forward alone has a wrong log-determinant"),
    ("inverse log-determinant", "log-determinant", "inverse alone has a wrong log-determinant"),
    ("log-determinant, inverse log-determinant", "", "each log-determinant is wrong by itself"),
    (
        "round trip from data, round trip from noise",
        "log-determinant",
        "the directions do not invert each other, and both log-determinants are right: {as}they "
        "differ in order, sign or a parameter",
    ),
    ("round trip in the tails", "round trip from data", "the inverse's domain or search ends"),
    ("batch independence", "", "a row sees others: by a statistic, a context, or steps of an ODE"),
    ("contexts in turn", "", "what an earlier context gave is kept and used again"),
    ("cache in evaluation", "", "a cache in eval() is stale once the parameters have moved"),
    ("train and eval", "", "a layer such as dropout or batch norm differs between the modes"),
    ("samples and density", "log_prob of samples", "samples do not have the base's density"),
    ("total mass", "log-determinant", "the base has another mass than one, or the map is not onto"),
    ("gradient for x", "log-determinant", CUT),
    ("gradient for parameters", "log-determinant", CUT),
    ("state through safetensors", "", "a tensor is a plain attribute: make it a buffer"),
)

Row = dict[str, Any]  # of a library: where it was judged (PLACE), row, figure, bound, passed
PLACE = ("library", "version", "family", "dim", "dtype", "parameters")
FIELDS = (*PLACE, "row", "figure", "bound", "passed")
LARGE, LARGE_WITHIN = 64, 3.0  # a dimension, judged if the one before took at most these seconds
FULL = {"dim": (2, 3, 10, LARGE), "dtype": DTYPES, "parameters": ("initial", "moved")}
QUICK = {"dim": (2, 3), "dtype": ("float64",), "parameters": ("moved",)}
LIMIT, PATIENCE = 16.0, 6  # seconds of the processor for one judgement; as many times on the clock
LATE = "time limit"

FLOWS = "Names or patterns of flows, or Python files that register flows (default: all)."
DIM = f"Dimensions: {NUMBERS}; repeatable (default: 1,2,3,10)."
SET = "option=value for every flow (`flowgauge list` has the options), or parameters=N."
CSV = "Write every figure to a CSV file: flow, dim, row, dtype, ..."
LONG = "Print all rows, not only those that failed."
EXPLAIN = "Say what a row judges and what fails it, and stop."
LIBRARY = "Check all families of a library (nflows,zuko) instead; repeatable."
SMALL = "Of a library: D = 2 and 3, float64, moved parameters."
JSON = "Of a library: write the rows as they come (.json, .json.gz)."
AGAINST = "Of a library: earlier rows; status 1 only if a verdict changed."


def check(
    flows: Annotated[Texts, Argument(help=FLOWS, autocompletion=complete_flows)] = None,
    dim: Annotated[Texts, Option(help=DIM)] = None,
    options: Annotated[Texts, Option("-s", "--set", help=SET)] = None,
    plugin: Plugin = None,
    csv_file: Annotated[File, Option("--csv", help=CSV)] = None,
    every_row: Annotated[bool, Option("--long", help=LONG)] = False,
    explain: Annotated[str | None, Option(help=EXPLAIN)] = None,
    library: Annotated[Texts, Option(help=LIBRARY)] = None,
    quick: Annotated[bool, Option("--quick", help=SMALL)] = False,
    json_file: Annotated[File, Option("--json", help=JSON)] = None,
    against: Annotated[File, Option(help=AGAINST)] = None,
) -> None:
    """Check by the conformance kit whether flows are densities and behave as such.

    A flow that takes a context is judged with and without one. A flow that ends its process fails.
    Modules and plug-ins that cannot be imported fail where all flows are judged.

    Exit status: 0 all passed, 1 some row failed, 2 wrong usage.
    """
    with usage_errors():
        if explain is not None:
            _explain(explain)
            return
        load_plugins(plugin)
        dims = list(dict.fromkeys(number for text in dim or () for number in numbers(text, "dim")))
        library = split(library)
        of_flows = {"FLOWS": flows, "--set": options, "--csv": csv_file, "--long": every_row}
        of_library = {"--quick": quick, "--json": json_file, "--against": against}
        for name, value in (of_flows if library else of_library).items():
            if value:
                fault = "cannot be used with" if library else "needs"
                raise ValueError(f"{name} {fault} --library")
        if library:
            scope = {**(QUICK if quick else FULL), **({"dim": dims} if dims else {})}
            failed = _check_libraries(library, scope, json_file, against)
        else:
            failed = _check_flows(flows, dims or list(DIMS), options, csv_file, every_row)
    if failed:
        say("flowgauge check --explain ROW says what a row judges, --long prints all rows", "dim")
        for url in metadata("flowgauge").get_all("Project-URL") or []:
            kind, _, address = url.partition(", ")
            if kind == "Documentation" and "OWNER" not in address:  # which a release fills in
                say(f"{address}conformance.html", "dim")
    raise Exit(1 if failed else 0)


class Candidate(NamedTuple):
    """A flow to judge; with a ``limit`` of seconds a library's, at sizes of its own."""

    name: str
    dim: int
    options: Mapping[str, Any]
    dtypes: Sequence[str] = DTYPES
    moved: bool = True
    limit: float = 0.0


def _judged(child: Child, candidate: Candidate) -> list[Outcome]:
    """Judge a flow in a helper; where it ends that process: the rows before, and how it ended."""
    from flows.conformance import Outcome

    end = []
    with NamedTemporaryFile("r") as file:
        try:
            child.call(_judge, file.name, candidate, timeout=None)
        except RuntimeError as error:
            late = str(error).endswith(("SIGPROF", "SIGALRM"))
            row, bound = (LATE, candidate.limit) if late else ("process", None)
            end = [Outcome(row, "", None, bound, "fail", str(error))]
        outcomes = [Outcome(**json.loads(line)) for line in file]
    names = list(dict.fromkeys(outcome.name for outcome in outcomes))  # those of one row together
    return [*sorted(outcomes, key=lambda outcome: names.index(outcome.name)), *end]


def _judge(path: str, candidate: Candidate) -> None:
    """Judge a flow in a helper's process, which the limit ends; write a line an outcome."""
    import torch

    import flows
    from benchmarks.cli import libraries

    shorten_warnings()
    name, dim, options, dtypes, moved, limit = candidate
    if limit:
        warnings.simplefilter("ignore")  # libraries' notices about themselves
        torch.set_num_threads(1)
        libraries.register()
        options = libraries.options(name)
    types = [getattr(torch, dtype) for dtype in dtypes]
    with Path(path).open("w") as file:

        def report(outcome: Outcome) -> None:
            print(json.dumps(asdict(outcome)), file=file, flush=True)

        signal.setitimer(signal.ITIMER_PROF, limit)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * limit)
        try:
            flows.check(name, dim=dim, dtypes=types, moved=moved, report=report, **options)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _check_flows(
    patterns: Sequence[str] | None,
    dims: Sequence[int],
    options: Sequence[str] | None,
    csv_file: Path | None,
    every_row: bool,
) -> bool:
    """Check flows and print a table for each; whether any failed."""
    import pandas as pd

    from benchmarks.execution.suite import check_sizes, check_values, override
    from benchmarks.measure.process import helper
    from flows import members, names

    chosen, values = flows_of(patterns or names()), dict[str, Any]()
    for text in options or ():
        override(values, text)
    if "dim" in values:
        raise ValueError("the dimension is set by --dim")
    for name in chosen:
        members[name].complete({k: v for k, v in values.items() if k != "parameters"})
    check_values({"dim": list(dims), "set": values}, "check")
    check_sizes({"dim": list(dims), **values}, "check")
    if csv_file == PRINTED:
        raise ValueError("--csv -: name a file, which is written after each flow")
    check_writable(csv_file)
    table: list[dict[str, Any]] = []
    with helper() as child:
        for name, d in itertools.product(chosen, dims):
            with console.status(styled(f"{name}, D = {d}")):
                rows = _judged(child, Candidate(name, d, values))
            _print(f"{name}, D = {d}", rows, every_row)
            table += [dict(zip(COLUMNS, (name, d, *astuple(row)), strict=True)) for row in rows]
            outcomes = pd.DataFrame(table)
            texts = outcomes.map(lambda value: cell(value) if isinstance(value, str) else value)
            write(csv_file, texts.to_csv(index=False, lineterminator="\n"))
    undeclared = [m for n in chosen if (m := members[n]).library is None and m.undeclared]
    for member in undeclared:
        uses = f"uses={(*member.uses, *member.undeclared)}"
        say(
            f"{member.name} takes {', '.join(member.undeclared)}, which was not looked at: name it "
            f"in `uses`, as in @flows.register({member.name!r}, {uses})"
        )
    failed = _failures(outcomes)
    if not patterns:
        kinds = {name: "plug-in" if ":" in name else "module" for name in members.left_out}
        failed += [f"{kinds[n]} {n!r} ({fault})" for n, fault in members.left_out.items()]
    applies = outcomes["status"] != "not applicable"
    inapplicable = (~applies.groupby([outcomes["flow"], outcomes["dim"]]).any()).sum()
    scope = f"{counted(len(chosen), 'flow')} at {counted(len(dims), 'dimension')}"
    unseen = " as far as it was looked at" if undeclared else ""
    verdict = f"failed: {'; '.join(failed)}" if failed else f"all passed{unseen}"
    console.print(f"{scope}: {verdict}{f', {inapplicable} not applicable' if inapplicable else ''}")
    return bool(failed)


def _failures(outcomes: pd.DataFrame) -> list[str]:
    """Each flow that failed, its dimensions, and the first of the rows that failed at them."""
    dims: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    failed = outcomes[outcomes["status"] == "fail"]
    for (flow, dim), rows in failed.groupby(["flow", "dim"], sort=False):
        dims.setdefault((str(flow), tuple(rows["row"].unique())), []).append(str(dim))
    failures = []
    for (flow, names), where in dims.items():
        parts = [*names[:NAMED], *([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])]
        failures.append(f"{flow} at D = {', '.join(where)} ({', '.join(parts)})")
    return failures


def _print(subject: str, outcomes: Sequence[Outcome], every_row: bool) -> None:
    """Print the rows that failed, or all, without a context and with one; then the likely fault.

    Each reason is printed once.
    """
    from flows.conformance import GIVEN

    for suffix in ("", GIVEN):
        rows = [row for row in outcomes if row.name.endswith(GIVEN) == bool(suffix)]
        if suffix and not rows:
            continue
        status = max((row.status for row in rows), key=[*VERDICTS].index)
        verdict = styled(VERDICTS[status], STYLES[status])
        title = Text.assemble(styled(f"{subject}{suffix}: "), verdict, style="italic")
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        dtypes = [d for d in DTYPES if any(row.dtype == d for row in rows)]
        for header in ("Row", *(f"{dtype} ≤ bound" for dtype in dtypes), "Status"):
            table.add_column(header, no_wrap=True)
        notes: dict[str, list[str]] = {}
        for full, group in itertools.groupby(rows, key=lambda row: row.name):
            name, by_dtype = full.removesuffix(GIVEN), {row.dtype: row for row in group}
            worst = max(by_dtype.values(), key=lambda row: [*STYLES].index(row.status))
            unusual = worst.status in ("expected", "fail")
            if not (every_row or unusual or status == "not applicable"):
                continue
            cells = [_cell(by_dtype.get(dtype)) for dtype in dtypes]
            table.add_row(name, *cells, styled(worst.status, STYLES[worst.status]))
            if worst.note and (worst.status == "fail" or status == "not applicable"):
                notes.setdefault(worst.note, []).append(name)
        console.print(table if table.row_count else title)
        for reason, (name, *others) in notes.items():
            say(f"  {name}{f' and {len(others)} more' if others else ''}: {reason}")
        if fault := likely_fault(rows):
            say(f"  likely: {fault}", "yellow")


def likely_fault(rows: Sequence[Outcome]) -> str:
    """What the pattern of rows that failed points to; empty where none is known."""
    from flows.conformance import GIVEN

    failed = [(row.name.removesuffix(GIVEN), row) for row in rows if row.status == "fail"]
    names = {name for name, _ in failed}
    logs = [row for name, row in failed if name in LOGS]
    exact = {row.dtype for row in logs} == {"float64"}
    if exact and all(row.value is not None and row.value < ROUNDED for row in logs):
        return FLOAT32
    for failing, passing, fault in FAULTS:
        if {*failing.split(", ")} <= names and passing not in names:
            return fault.replace("{as}", CONTEXT if rows[0].name.endswith(GIVEN) else "")
    return ""


def _explain(name: str) -> None:
    """Print what a row judges, its bounds, faults that fail it; ValueError for an unknown row."""
    import flows
    from flows.conformance import GIVEN, ROWS
    from flows.registry import choices

    rows = {row.name: getattr(row.measure, "func", row.measure) for row in ROWS}
    if (name := name.removesuffix(GIVEN)) not in rows:
        hint = choices(name, rows, "flowgauge check maf --long")
        raise ValueError(f"there is no row {name!r}; {hint}")
    say(f"{name}: {' '.join((inspect.getdoc(rows[name]) or '').split())}")
    exact = flows.check("nsf_coupling", dim=2, layers=1, hidden=4).rows  # in closed form
    bounds = [f"{row.bound:.0e} in {row.dtype}" for row in exact if row.bound and row.name == name]
    if bounds:
        say(f"  bound: {', '.join(bounds)}; more where an ODE, rounding or a grid decides")
    faults = [fault for failing, _, fault in FAULTS if name in failing.split(", ")]
    for fault in (*faults, *[FLOAT32] * (name in LOGS)):
        say(f"  a frequent fault: {fault.replace('{as}', '')}")


def _cell(row: Outcome | None) -> str:
    return "" if row is None or row.value is None else f"{row.value:.1e} ≤ {row.bound:.0e}"


def _check_libraries(
    names: Sequence[str],
    scope: Mapping[str, Sequence[Any]],
    json_file: Path | None,
    against: Path | None,
) -> bool:
    """Judge the families of libraries and print a line for each judgement.

    Returns whether a row failed, or with ``against`` whether a verdict changed.
    """
    from benchmarks.cli import libraries
    from benchmarks.measure.process import helper

    chosen = [libraries.library(name) for name in dict.fromkeys(names)]
    earlier = read_rows(against) if against else []
    earlier = [row for row in earlier if row["library"] in names]
    earlier = [row for row in earlier if all(row[key] in scope[key] for key in scope)]
    for name in names:
        if against and all(row["library"] != name for row in earlier):
            raise ValueError(f"{str(against)!r} has no rows of {name} at these sizes")
    if json_file:
        if against and against.resolve() == json_file.resolve():
            raise ValueError(f"--against {str(against)!r} is the file that --json writes: name two")
        write_rows(json_file, [])  # fail before anything is measured
    rows: list[Row] = []
    outcome = f"the rows so far are in {json_file}" if json_file else "no rows were written"
    with clean_interrupt(outcome), helper() as child:
        for judgement in itertools.chain(*(_judgements(child, one, scope) for one in chosen)):
            rows += judgement
            if json_file:
                write_rows(json_file, rows)
            failed = ", ".join(row["row"] for row in judgement if row["passed"] is False)
            verdict = styled(f"failed: {failed}" if failed else "passed", "red" if failed else "")
            say(Text.assemble(_place(judgement[0]), ": ", verdict))
    failures = sum(row["passed"] is False for row in rows)
    versions = ", ".join(f"{library.name} {library.version}" for library in chosen)
    say(f"{versions}: {counted(len(rows), 'row')}, {failures} failed")
    if not against:
        return bool(failures)
    lines = changes(earlier, rows)
    for line in lines:
        say(styled(line, "red"))
    before = ", ".join(dict.fromkeys(f"{row['library']} {row['version']}" for row in earlier))
    say(f"{counted(len(lines), 'verdict')} changed since {before}")
    return bool(lines)


def _judgements(
    child: Child, library: Library, scope: Mapping[str, Sequence[Any]]
) -> Iterator[list[Row]]:
    """Rows of each family at one size after another; a family ends where it takes too long.

    Rows that do not apply are left out, but for a refusal to be built.
    """
    from flows.conformance import Outcome

    verdicts = {"pass": True, "fail": False, "expected": None, "not applicable": None}
    for family in library.members:
        spent, late = 0.0, False
        for dim in scope["dim"]:
            if late or (dim == LARGE and spent > LARGE_WITHIN):
                break
            start = time.monotonic()
            for dtype, parameters in itertools.product(scope["dtype"], scope["parameters"]):
                candidate = Candidate(family, dim, {}, [dtype], parameters == "moved", LIMIT)
                try:
                    outcomes = _judged(child, candidate)
                except ValueError as error:
                    outcomes = [Outcome("construction", dtype, None, None, "fail", str(error))]
                place = (library.name, library.version, family, dim, dtype, parameters)
                cells = [
                    (*place, o.name, _rounded(o.value), _rounded(o.bound), verdicts[o.status])
                    for o in outcomes
                    if verdicts[o.status] is not None or o.name == "construction"
                ]
                yield [dict(zip(FIELDS, row, strict=True)) for row in cells]
                if late := outcomes[-1].name == LATE:
                    break
            spent = time.monotonic() - start


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
        remedy = f"{error}; write one with --json"
        raise ValueError(f"{str(path)!r} is not a file of rows: {remedy}") from error
    return list(rows)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows as one JSON list, a line a row; a kill leaves the file as it was before."""
    from benchmarks.core import store

    data = ("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n").encode()
    store.replace(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def changes(before: Iterable[Row], after: Iterable[Row]) -> list[str]:
    """A line for each verdict that differs where both judged a family and neither was late.

    A family that one of them lacks is one line. Figures may differ.
    """
    words = {True: "passed", False: "failed", None: "not applicable"}
    sides = old, new = [
        {(row["family"], _place(row), row["row"]): words[row["passed"]] for row in rows}
        for rows in (before, after)
    ]
    families = [dict.fromkeys(family for family, *_ in side) for side in sides]
    lines = [f"{family}: no rows before" for family in families[1] if family not in families[0]]
    lines += [f"{family}: no rows now" for family in families[0] if family not in families[1]]
    both = {place for _, place, _ in old} & {place for _, place, _ in new}
    both -= {place for side in sides for _, place, name in side if name == LATE}
    for key in (key for key in {**old, **new} if key[1] in both):
        was, now = (side.get(key, "no row") for side in sides)
        if was != now:
            lines.append(f"{key[1]}, {key[2]}: {was} before, {now} now")
    return lines


def _place(row: Row) -> str:
    return f"{row['family']}, D = {row['dim']}, {row['dtype']}, {row['parameters']} parameters"
