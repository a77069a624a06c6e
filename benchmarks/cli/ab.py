"""The command ``flowgauge ab``: two revisions of a repository timed against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.ab.benches import FACTOR, select
from benchmarks.cli.console import (
    check_writable,
    clean_interrupt,
    console,
    errors,
    styled,
    usage_errors,
    write,
)

STYLES = {"slower": "bold red", "faster": "green", "failed in new": "bold red"}

Only = Annotated[
    list[str] | None,
    typer.Option(help="FAMILY or FAMILY/OPERATION (gradient, log_prob, sample); repeatable."),
]


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
    only: Only = None,
    seconds: Annotated[float, typer.Option(min=5, max=60, help="Seconds of timing in total.")] = 40,
    factor: Annotated[
        float, typer.Option(min=1, help="Smallest ratio new over base that counts as slower.")
    ] = FACTOR,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write verdicts and all samples as JSON to a file; - for standard output.",
        ),
    ] = None,
    markdown_file: Annotated[
        Path | None,
        typer.Option(
            "--markdown", help="Write the table as Markdown to a file; - for standard output."
        ),
    ] = None,
    require_pace: Annotated[
        bool,
        typer.Option(
            "--require-pace",
            help="Fail only where times changed without a new version or pace.",
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
        from benchmarks.ab import rendering
        from benchmarks.ab.checkouts import checkouts
        from benchmarks.ab.environments import interpreters
        from benchmarks.ab.session import compare
        from benchmarks.ab.subject import resolve

        subject = resolve(package, plugin)
        benchmarks = select(only) if only or subject.own else []
        for file in filter(None, (json_file, markdown_file)):
            check_writable(file)  # fail before anything is timed
        with (
            errors.status("laying out both revisions") as status,
            checkouts(base, new, paths=subject.paths) as revisions,
        ):
            measurements = compare(
                revisions,
                interpreters(revisions, subject),
                benchmarks,
                subject=subject,
                seconds=seconds,
                factor=factor,
                progress=lambda text: status.update(styled(text)),
            )
        about = rendering.caption(revisions, seconds, factor)
        if markdown_file is not None:
            write(markdown_file, rendering.markdown(measurements, about))
        if json_file is not None:
            facts = {"seconds": seconds, "factor": factor, "machine": rendering.machine()}
            document = rendering.document(measurements, revisions, facts)
            write(json_file, json.dumps(document) + "\n")
    if Path("-") not in (json_file, markdown_file):
        table = Table(*rendering.HEADERS, box=None)
        table.columns[0].no_wrap = True
        for row in rendering.rows(measurements):
            table.add_row(*row, style=STYLES.get(row[-1]))
        console.print(table)
        console.print(about, style="dim")
    for line in [*rendering.reasons(measurements), rendering.summary(measurements)]:
        errors.print(line)
    results = measurements.values()
    moved = [m.undeclared if require_pace else m.verdict == "slower" for m in results]
    few = any(m.verdict == "too few" for m in results)
    few |= not any(m.judgement for m in results)
    raise typer.Exit(1 if any(moved) or any(m.failed for m in results) else 2 if few else 0)
