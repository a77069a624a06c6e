"""The command ``flowgauge compare``: the gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.cli.console import console, print_rows, styled, usage_errors, write

if TYPE_CHECKING:
    from benchmarks.gate.comparison import Verdict

COLOURS = {"better": "green", "appeared": "blue"}


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
    equal. Qualities are judged by their standard errors (one that is worse, and has
    none, is a failure), and times by --factor and a rank test of
    their ratios to the reference workload; the tests of each class together have a level of 0.05. A
    case that vanished or failed is a failure. Device, precision and number of threads are ignored
    in matching cases if each result has one value of them throughout.

    Exit status: 0 passed, 1 failed, 2 not comparable, no number judged, or wrong usage.
    """
    with usage_errors():
        from benchmarks.gate import compare as judge
        from benchmarks.gate import exports, rendering

        verdict = judge(base, new, factor=factor, allow=allow or ())
        wanted = [
            (markdown, rendering.markdown),
            (json, rendering.as_json),
            (junit, exports.junit),
            (github_benchmark, exports.github_benchmark),
        ]
        if markdown == json == Path("-"):
            raise ValueError("--markdown - and --json -: only one of them can be printed")
        for path, render in wanted:
            if path is not None:
                write(path, render(verdict))
    if Path("-") not in (path for path, _ in wanted):
        _show(verdict)
    raise typer.Exit(verdict.status)


def _show(verdict: Verdict) -> None:
    """Print the comparisons worth a line, the metrics that changed, and the summary."""
    from benchmarks.gate import rendering

    comparisons = (*verdict.notable, *verdict.unresolved)
    styles = ["red" if c.fails else COLOURS.get(c.outcome, "") for c in comparisons]
    rows = [
        [styled(text, style) for text in rendering.row(comparison)]
        for comparison, style in zip(comparisons, styles, strict=True)
    ]
    print_rows(rendering.HEADERS, rows)
    moved = [[styled(text) for text in rendering.change_row(change)] for change in verdict.moved]
    print_rows(rendering.CHANGES, moved)
    for line in verdict.summary:
        console.print(line, soft_wrap=True)
