"""What the commands share: the console, plug-ins, and errors of usage in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

console = Console()
errors = Console(stderr=True)

Plugin = Annotated[
    list[Path] | None, typer.Option(help="A Python file that registers flows; repeatable.")
]


def load_plugins(plugin: Sequence[Path] | None) -> None:
    """Import plug-in files; ValueError for one that cannot be."""
    from flows.registry import load_plugin

    for path in plugin or ():
        load_plugin(path)


def fail(message: str) -> NoReturn:
    """End with exit status 2 and one line on standard error."""
    errors.print(
        f"flowgauge: error: {message}", style="red", soft_wrap=True, highlight=False, markup=False
    )
    raise typer.Exit(2)


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """What the user asked for and does not exist: one line, exit status 2."""
    try:
        yield
    except ValueError as error:
        fail(str(error))
