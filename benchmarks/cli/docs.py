"""The command ``flowgauge docs``: write the pages that show results from the committed records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.console import console, usage_errors


def docs(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the pages and their templates *.md.jinja.")
    ] = Path("docs"),
    results: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("results"),
) -> None:
    """Write the pages that show results, and their figures, from the runs under results/.

    Each FOLDER/*.md.jinja is rendered to FOLDER/*.md, and the figures are written to
    FOLDER/figures. Times that were not measured quietly are left out.
    """
    with usage_errors():
        from benchmarks.report.documents import write

        if not list(folder.glob("*.md.jinja")):
            raise ValueError(f"{str(folder)!r} has no templates *.md.jinja")
        pages = write(results, folder)
    for page in pages:
        console.print(str(page), soft_wrap=True)
