"""The command ``flowgauge report``: the pages of one or several results folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.console import console, usage_errors
from benchmarks.cli.options import DataRoot, Plugin, load_plugins, results_folder, use_data_root


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(help="A results folder or a suite that was run; several: side by side."),
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

    Of several, as of a before and an after, each table and figure has the series of all of them,
    named by their folders. Times of different machines, or of CPU and GPU, are shown one after
    another and never in one table. What changed is what `flowgauge compare` says.
    """
    with usage_errors():
        from benchmarks.report import write

        load_plugins(plugin)
        use_data_root(data_root)
        page = write(*map(results_folder, folders), out=out)
    console.print(f"report: {page}", soft_wrap=True)
