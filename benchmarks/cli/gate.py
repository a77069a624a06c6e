"""The commands of the gate: ``compare``, ``baseline`` and ``ab``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.cli.console import (
    check_writable,
    clean_interrupt,
    console,
    errors,
    styled,
    usage_errors,
    write,
)
from benchmarks.core.formats import NOTHING

COLOURS = {"better": "green", "appeared": "blue"}
AB_COLOURS = {"slower": "bold red", "faster": "green", "failed in new": "bold red"}
WIDEST = 10_000  # columns of a terminal in which every table fits
PRINTED = Path("-")


def compare(
    base: Annotated[Path, typer.Argument(help="The results to compare with.")],
    new: Annotated[Path, typer.Argument(help="The results to judge.")],
    factor: Annotated[float, typer.Option(help="Largest ratio by which a time may grow.")] = 1.1,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Cases that may vanish, or be worse unjudged, by label or pattern; repeatable."
        ),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write Markdown to a file, or - for the terminal.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write JSON to a file, or - for the terminal.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit's XML to a file.")] = None,
    github_benchmark: Annotated[
        Path | None,
        typer.Option(help="Write NEW as customSmallerIsBetter of github-action-benchmark."),
    ] = None,
) -> None:
    """List what got worse, better, stayed, appeared or vanished from BASE to NEW.

    A second table shows each metric that changed, over all cases of both results: the ratio of
    medians, or the difference if it is in nats.

    BASE and NEW are each a results folder, a record (records/*.json), a JSON file of
    pytest-benchmark, or a folder of such files, of which the newest counts. Exact counts must be
    equal. Qualities are judged by their standard errors (one that is worse, and has none, is a
    failure), and times by --factor and a rank test of their ratios to the reference workload; the
    tests of each class together have a level of 0.05. A case that vanished or failed is a failure.
    Device, precision and number of threads are ignored in matching cases if each result has one
    value of them throughout.

    Exit status: 0 passed, 1 failed, 2 not comparable, no number judged, or wrong usage.
    """
    with usage_errors():
        from benchmarks.gate import verdict as forms
        from benchmarks.gate.comparison import compare as judge

        verdict = judge(base, new, factor=factor, allow=allow or ())
        if markdown == json == PRINTED:
            raise ValueError("--markdown - and --json -: only one of them can be printed")
        files = {
            forms.as_markdown: markdown,
            forms.as_json: json,
            forms.as_junit: junit,
            forms.as_github_benchmark: github_benchmark,
        }
        for render, path in files.items():
            if path is not None:
                write(path, render(verdict))
    if PRINTED not in files.values():
        comparisons = (*verdict.notable, *verdict.unresolved)
        styles = ["red" if c.fails else COLOURS.get(c.outcome, "") for c in comparisons]
        _print_table(forms.HEADERS, [c.row for c in comparisons], styles)
        _print_table(forms.CHANGES, [change.row for change in verdict.moved])
        for line in verdict.summary:
            console.print(line, soft_wrap=True)
    raise typer.Exit(verdict.status)


def _print_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], styles: Iterable[str] = ()
) -> None:
    """Print a table unless it is empty; if it is too wide, a paragraph a row."""
    if not rows:
        return
    table, styles = Table(*headers), [*styles] or [""] * len(rows)
    for cells, style in zip(rows, styles, strict=True):
        table.add_row(*cells, style=style)
    needed = console.measure(table, options=console.options.update(width=WIDEST)).maximum
    if needed <= console.width:
        console.print(table)
        return
    for (title, *cells), style in zip(rows, styles, strict=True):
        console.print(title, style=style, soft_wrap=True)
        for header, cell in zip(headers[1:], cells, strict=True):
            if cell.strip() not in ("", NOTHING):
                console.print(f"  {header}: {cell}", soft_wrap=True)


baseline = typer.Typer(no_args_is_help=True, help="The figures that the gate compares with.")
Target = Annotated[Path, typer.Option(help="Folder of the baseline.")]
BASELINE = Path("results/baseline")


@baseline.callback()
def commands() -> None:
    """Renew or check the baseline that the gate compares with."""


@baseline.command()
def update(
    folder: Annotated[
        Path, typer.Argument(help="A finished results folder of the baseline's suite.")
    ] = Path("results/ci"),
    target: Target = BASELINE,
) -> None:
    """Add the records of new versions in a results folder to the committed baseline.

    Refused if a case fails that was measured before, if figures changed and no version was raised,
    or if operators changed and neither version nor pace was raised. Exit status: 0, 2 if refused.
    """
    with usage_errors():
        from benchmarks.gate.baseline import renew

        count = renew(folder, target)
    console.print(f"{count} records were added to the baseline: review and commit {target}")


@baseline.command()
def check(
    target: Target = BASELINE,
    base: Annotated[
        str | None, typer.Option(help="A commit; its parts of the baseline must be unchanged.")
    ] = None,
) -> None:
    """Check that each version in the baseline has one set of figures, and that no part was changed.

    Exit status: 0 sound, 1 not, 2 wrong usage.
    """
    with usage_errors():
        from benchmarks.core import store
        from benchmarks.core.naming import counted
        from benchmarks.gate.baseline import faults

        problems = list(faults(store.existing(target), base))
    for fault in problems:
        console.print(fault, style="red", soft_wrap=True)
    console.print("the baseline is sound" if not problems else counted(len(problems), "fault"))
    raise typer.Exit(1 if problems else 0)


def ab(
    base: Annotated[str, typer.Argument(help="A branch, tag or commit to compare against.")],
    new: Annotated[
        str, typer.Argument(help="The revision to judge; '.' is the working tree.")
    ] = ".",
    package: Annotated[
        str | None,
        typer.Option(help="Package of the repository whose flows are timed, instead of flows."),
    ] = None,
    plugin: Annotated[
        Path | None,
        typer.Option(help="File of the repository whose flows are timed, with those of PACKAGE."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="FAMILY or FAMILY/OPERATION (gradient, log_prob, sample); repeatable."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=5, max=60, help="Seconds of timing in total.")] = 40,
    factor: Annotated[
        float, typer.Option(min=1, help="Smallest ratio new over base that counts as slower.")
    ] = 1.05,
    json: Annotated[
        Path | None, typer.Option(help="Write verdicts and all samples as JSON; - prints it.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the table as Markdown; - prints it.")
    ] = None,
    require_pace: Annotated[
        bool,
        typer.Option(
            "--require-pace", help="Fail only if times changed without a new version or pace."
        ),
    ] = False,
) -> None:
    """Time the flows of two git revisions against each other on this machine.

    Both take turns on one core, in this environment unless they declare different dependencies.
    With --package or --plugin the repository is anyone's: its flows are those of each revision, and
    all that they import from it too; the library flows is the installed one.
    Exit status: 0 none slower, 1 some slower or failed, 2 wrong usage, too little time to judge,
    or nothing that runs on both sides.
    With --require-pace, 1 if a time changed and its flow declares no new version or pace, or if a
    flow failed.
    """
    with usage_errors(), clean_interrupt("nothing is kept"):
        from benchmarks.gate import ab as revisions

        for file in filter(None, (json, markdown)):
            check_writable(file)  # fail before anything is timed
        with errors.status("laying out both revisions") as status:
            results = revisions.compare(
                base,
                new,
                revisions.Subject.of(package, plugin),
                only or (),
                seconds=seconds,
                factor=factor,
                progress=lambda text: status.update(styled(text)),
            )
        if markdown is not None:
            write(markdown, results.markdown)
        if json is not None:
            write(json, results.json)
    if PRINTED not in (json, markdown):
        rows = results.rows
        styles = [AB_COLOURS.get(row[-1], "") for row in rows]
        _print_table(revisions.HEADERS, rows, styles)
        console.print(results.caption, style="dim")
    for line in results.notes:
        errors.print(line, soft_wrap=True)
    raise typer.Exit(results.status(require_pace))
