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
        typer.Argument(
            help="A results folder, or a suite that was run; several are shown side by side."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report (default: FOLDER/report, or results/A-vs-B/report for "
            "several)."
        ),
    ] = None,
    plugin: Plugin = None,
    data_root: DataRoot = None,
) -> None:
    """Draw the report of a results folder from its records, or of several side by side.

    For several folders, such as before and after a change, each table and figure has the series of
    all of them, named by folder. Times of different machines, or of CPU and GPU, are shown one
    after another and never in one table. To list what changed, use `flowgauge compare`.
    """
    with usage_errors():
        from benchmarks.report import write

        load_plugins(plugin)
        use_data_root(data_root)
        page = write(*map(results_folder, folders), out=out)
    console.print(f"report: {page}", soft_wrap=True)
