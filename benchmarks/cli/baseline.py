"""The commands ``flowgauge baseline``: the counts that the gate compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.console import console, usage_errors

app = typer.Typer(no_args_is_help=True, help="The counts that the gate compares with.")


@app.callback()
def commands() -> None:
    """The counts that the gate compares with."""


@app.command()
def update(
    folder: Annotated[
        Path, typer.Argument(help="A finished results folder of the suite ci.")
    ] = Path("results/ci"),
    target: Annotated[Path, typer.Option(help="Where the baseline is.")] = Path("results/baseline"),
) -> None:
    """Renew the committed baseline from a results folder, on purpose."""
    with usage_errors():
        from benchmarks.gate.baseline import renew

        count = renew(folder, target)
    console.print(f"{count} records are the baseline now: review and commit {target}")
