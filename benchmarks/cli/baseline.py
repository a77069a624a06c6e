"""The commands ``flowgauge baseline``: the figures that the gate compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.console import console, usage_errors

app = typer.Typer(no_args_is_help=True, help="The figures that the gate compares with.")
Target = Annotated[Path, typer.Option(help="Where the baseline is.")]
BASELINE = Path("results/baseline")


@app.callback()
def commands() -> None:
    """The figures that the gate compares with."""


@app.command()
def update(
    folder: Annotated[
        Path, typer.Argument(help="A finished results folder of the suite ci.")
    ] = Path("results/ci"),
    target: Target = BASELINE,
) -> None:
    """Add what a results folder has of new versions to the committed baseline, on purpose.

    Refused where figures moved and no version was raised, or operators and neither version nor
    pace. Exit status: 0, 2 where it is refused.
    """
    with usage_errors():
        from benchmarks.gate.baseline import renew

        count = renew(folder, target)
    console.print(f"{count} records are new in the baseline: review and commit {target}")


@app.command()
def check(
    target: Target = BASELINE,
    base: Annotated[
        str | None, typer.Option(help="A commit whose parts have to be there unchanged.")
    ] = None,
) -> None:
    """Check that no version of the baseline has two sets of figures, and that it only grew.

    Exit status: 0 sound, 1 not, 2 wrong usage.
    """
    with usage_errors():
        from benchmarks.core import store
        from benchmarks.gate.baseline import faults

        problems = list(faults(store.existing(target), base))
    for fault in problems:
        console.print(fault, style="red", soft_wrap=True)
    console.print("the baseline is sound" if not problems else f"{len(problems)} faults")
    raise typer.Exit(1 if problems else 0)
