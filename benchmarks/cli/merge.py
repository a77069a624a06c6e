"""The command ``flowgauge merge``: join results folders, such as those of shards, into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.console import console, usage_errors


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Results folders; they stay as they are.")],
    out: Annotated[Path, typer.Option(help="Folder of the joined results.")],
) -> None:
    """Join results folders into one, such as those of shards that ran on several hosts.

    Where two have different records of one case, the current one is taken, then the newer one; the
    other is kept in OUT/superseded. Exit status: 0, 2 for wrong usage.
    """
    with usage_errors():
        from benchmarks.core import store
        from benchmarks.execution import merging

        conflicts = merging.merge(folders, out)
        count = len(store.read(out))
    for conflict in conflicts:
        console.print(
            f"{conflict.label}: taken from {conflict.taken}; that of {conflict.superseded} is in "
            f"{out / 'superseded'}",
            style="yellow",
            soft_wrap=True,
        )
    console.print(f"{count} records in {out}", soft_wrap=True)
