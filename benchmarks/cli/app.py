"""The command line: the only code that parses arguments, prints or exits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from benchmarks.cli.ab import ab
from benchmarks.cli.check import check
from benchmarks.cli.claims import claims
from benchmarks.cli.compare import baseline, compare
from benchmarks.cli.console import (
    DataRoot,
    Plugin,
    console,
    load_plugins,
    usage_errors,
    use_data_root,
)
from benchmarks.cli.cost import cost
from benchmarks.cli.data import app as data_app
from benchmarks.cli.data import files_of
from benchmarks.cli.running import carry_out

app = typer.Typer(
    name="flowgauge",
    help="What normalizing-flow families cost and what they are worth, measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(check)
app.command()(cost)
app.command()(claims)
app.command()(compare)
app.add_typer(baseline, name="baseline")
app.add_typer(data_app, name="data")
app.command()(ab)

SuiteName = Annotated[
    str, typer.Argument(help="A suite's name, the path of a TOML file, or a folder of results.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Results folder (default: results/<suite>, or SUITE if it is one)."),
]
Studies = Annotated[
    list[str] | None,
    typer.Option("--study", help="A study of the suite, instead of all of them; repeatable."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", help="key=value for any value of the suite; repeatable."),
]
Device = Annotated[str | None, typer.Option(help="Device to measure on: cpu, cuda, cuda:1.")]
Data = Annotated[
    list[str] | None,
    typer.Option(help="A data set, or a file of one, instead of the suite's; repeatable."),
]
Threads = Annotated[int | None, typer.Option(help="Threads of the worker.")]


@app.command("list")
def list_members(plugin: Plugin = None) -> None:
    """List flows, data sets, studies, suites and claims."""
    with usage_errors():
        from benchmarks import claims, datasets
        from benchmarks.core import study as studies
        from benchmarks.execution import suite
        from flows import members

        load_plugins(plugin)
        flows = {name: _about(members[name]) for name in members}
        questions = {name: studies.registry[name].question for name in studies.registry}
        sets = {name: _origin(name, datasets.module_of(name)) for name in datasets.names()}
        suites = {name: suite.read(name).about for name in suite.names()}
        claimed = {escape(claim.id): escape(claim.statement) for claim in claims.claims()}
    shown = {"Flows": flows, "Data sets": sets, "Studies": questions, "Suites": suites}
    shown |= {"Claims": claimed}
    for title, rows in shown.items():
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        for name, about in rows.items():
            table.add_row(f"[bold]{name}[/]", about)
        console.print(table)


@app.command()
def run(
    suite: SuiteName,
    study: Studies = None,
    out: Out = None,
    device: Device = None,
    threads: Threads = None,
    plugin: Plugin = None,
    overrides: Overrides = None,
    data: Data = None,
    data_root: DataRoot = None,
    retry: Annotated[bool, typer.Option("--retry", help="Measure failed cases again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cases and stop.")] = False,
) -> None:
    """Measure a suite and draw its report; goes on where an earlier run stopped.

    Exit status: 0 all cases done, 1 some failed, 2 wrong usage or configuration.
    """
    with usage_errors():
        use_data_root(data_root)
        chosen, folder = _suite(suite, study, out, overrides, device, threads, plugin, data)
        cases = chosen.cases()
    if dry_run:
        _print_plan(cases)
        return
    carry_out(chosen, folder, plugin, retry)


@app.command()
def status(
    suite: SuiteName,
    study: Studies = None,
    out: Out = None,
    device: Device = None,
    threads: Threads = None,
    plugin: Plugin = None,
    overrides: Overrides = None,
    data: Data = None,
    data_root: DataRoot = None,
) -> None:
    """Say which cases are done, failed, stale or missing."""
    with usage_errors():
        from benchmarks.core.naming import labels
        from benchmarks.execution.run import state

        use_data_root(data_root)
        chosen, folder = _suite(suite, study, out, overrides, device, threads, plugin, data)
        now = state(chosen, folder)
    told = labels(now.cases)
    table = Table("Status", "Cases", "Which")
    groups = {"done": now.valid, "failed": now.failed, "stale": now.stale, "missing": now.missing}
    for name, keys in groups.items():
        listed = [told[c.key] for c in now.cases if c.key in keys] if name != "done" else []
        table.add_row(name, str(len(keys)), "; ".join(listed[:12]) + (" …" * (len(listed) > 12)))
    console.print(table)
    for case in now.cases:
        if case.key in now.failed:
            console.print(f"{told[case.key]}: {now.records[case.key].reason}", style="red")
    raise typer.Exit(0 if len(now.valid) == len(now.cases) else 1)


@app.command("report")
def redraw(
    folders: Annotated[
        list[Path], typer.Argument(help="A results folder, or several to show side by side.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report (default: FOLDER/report, of several results/A-vs-B/report)."
        ),
    ] = None,
    plugin: Plugin = None,
    data_root: DataRoot = None,
) -> None:
    """Draw the report of a results folder from its records, or of several side by side.

    Of several, as of a before and an after or CPU and GPU, each study's figures and tables stand
    together, and every metric of the cases that they share with its ratio to the first folder's.
    Nothing is judged: that is what `flowgauge compare` is for.
    """
    with usage_errors():
        from benchmarks import report

        load_plugins(plugin)
        use_data_root(data_root)
        page = report.write(*folders, out=out)
    console.print(f"report: {page}", soft_wrap=True)


def _about(member: Any) -> str:
    """What a flow is, and below it the options that it takes."""
    return f"{member.description.replace('``', '')}\n[dim]{escape(', '.join(member.defaults))}[/]"


def _origin(name: str, module: str) -> str:
    """Of a data set: the module that has it, and whether its files are absent."""
    files = files_of(name)
    return module.rpartition(".")[2] + f" [dim]({files})[/]" * files.startswith("absent")


def _suite(
    name: str,
    study: list[str] | None,
    out: Path | None,
    overrides: list[str] | None,
    device: str | None,
    threads: int | None,
    plugin: list[Path] | None,
    data: list[str] | None,
) -> tuple[Any, Path]:
    """The suite with everything that the command line sets, and its results folder."""
    from benchmarks.execution import suite

    load_plugins(plugin)
    said = {"device": device, "threads": threads}
    values = [f"{key}={value}" for key, value in said.items() if value is not None]
    chosen = suite.read(name, [*(overrides or ()), *values])
    chosen = chosen.only(study) if study else chosen
    chosen = chosen.on(data) if data else chosen
    _check_device(chosen.device)
    return chosen, out or suite.planned(name) or Path("results") / chosen.name


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here: {reason}") from error


def _print_plan(cases: list[Any]) -> None:
    from benchmarks.core.naming import counted, duration, labels
    from benchmarks.core.study import registry

    total, told = 0.0, labels(cases)
    table = Table("Key", "Case", "Batch", "Updates", "Time")
    for case in cases:
        budget = registry[case.study].budget(case)
        total += budget
        updates = str(case.updates or "")
        table.add_row(case.key, told[case.key], str(case.batch), updates, duration(budget))
    console.print(table)
    console.print(f"{counted(len(cases), 'case')}, about {duration(total)}")
