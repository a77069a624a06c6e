"""The command ``flowgauge pack``: move the loose records of a folder into a part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.console import console, usage_errors


def pack(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    join: Annotated[
        bool, typer.Option("--all", help="Join all existing parts into the new one.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Drop arrays of this name, such as samples, for good; repeatable."),
    ] = None,
) -> None:
    """Move the loose records of a results folder into a new part, which is never rewritten.

    A part is ``records-0001.parquet`` with ``arrays-0001.zip``; all commands read loose and packed
    records alike. Exit status: 0, 2 for wrong usage or a folder that another command is using.
    """
    with usage_errors():
        from benchmarks.core import store
        from benchmarks.execution import claims

        with claims.at_rest(store.existing(folder)):
            table = store.pack(folder, join=join, without=without or ())
    if table is None:
        console.print(f"nothing to pack in {str(folder)!r}", soft_wrap=True)
    else:
        console.print(f"packed: {table}", soft_wrap=True)
