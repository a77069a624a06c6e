"""The commands ``flowgauge baseline``: the baseline that the gate compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.console import console, usage_errors

app = typer.Typer(no_args_is_help=True, help="The figures that the gate compares with.")
Target = Annotated[Path, typer.Option(help="Folder of the baseline.")]
BASELINE = Path("results/baseline")


@app.callback()
def commands() -> None:
    """Renew or check the baseline that the gate compares with."""


@app.command()
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


@app.command()
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
