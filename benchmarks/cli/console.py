"""What the commands share: the console, plug-ins, and errors of usage in one line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

console = Console()
errors = Console(stderr=True)

Plugin = Annotated[
    list[Path] | None, typer.Option(help="A Python file that registers flows; repeatable.")
]

DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of data files (else that of FLOWGAUGE_DATA, or a cache)."),
]


def use_data_root(root: Path | None) -> None:
    """Look for data files in a folder, here and in the worker; ValueError where it is none."""
    if root is not None:
        if not root.is_dir():
            raise ValueError(f"data root {str(root)!r} is no folder")
        os.environ["FLOWGAUGE_DATA"] = str(root.resolve())


def load_plugins(plugin: Sequence[Path] | None) -> None:
    """Import plug-in files; ValueError for one that cannot be."""
    from flows.registry import load_plugin

    for path in plugin or ():
        load_plugin(path)


def named(said: str) -> list[str]:
    """Flows of a name or pattern, or that a file registers; ValueError where that is none."""
    from flows import members
    from flows.registry import load_plugin

    if not said.endswith(".py"):
        return [name for name in members if fnmatch(name, said)] or [said]
    module = load_plugin(said).__name__
    names = [name for name in members if members.module_of(name) == module]
    if not names:
        raise ValueError(f"{said!r} registers no flow: decorate one with @flows.register")
    return names


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


def write(path: Path, text: str) -> None:
    """Write a file, or to standard output for "-"; ValueError where that cannot be."""
    if path == Path("-"):
        typer.echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write {str(path)!r}: {error.strerror}") from error
