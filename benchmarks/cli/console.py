"""Output of the commands: plain text on two consoles, files, and usage errors in one line."""

from __future__ import annotations

import contextlib
import errno
import functools
import signal
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from benchmarks.core.formats import brief, plain

LONGEST = 4000  # characters of an error: some list all that there is to choose from
WIDEST = 500  # characters of a line that has to fit no terminal
INTERRUPTED = 130  # exit status after Ctrl-C
STOPPED = 75  # after SIGTERM or SIGUSR1, with checkpoints: EX_TEMPFAIL of sysexits.h


def styled(text: object, style: str = "") -> Text:
    """Plain text in one style, for a part of a line or of a table's cell."""
    return Text(plain(text), style=style)


class PlainConsole(Console):
    """A console that prints strings as they are: no markup, no escapes. A `Text` has a style."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a string, of a table's cells too, as plain text."""
        return super().render_str(plain(text), **options)


console = PlainConsole()
errors = PlainConsole(stderr=True)


def print_rows(headers: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Print a table, or a paragraph a row where it is too wide; nothing if it is empty."""
    if not rows:
        return
    table = Table(*headers)
    for row in rows:
        table.add_row(*row)
    options = console.options.update(width=WIDEST)
    if console.measure(table, options=options).maximum <= console.width:
        console.print(table)
        return
    for title, *cells in rows:
        console.print(title, soft_wrap=True)
        for header, cell in zip(headers[1:], cells, strict=True):
            if cell.plain.strip() not in ("", "–"):
                console.print(Text.assemble(f"  {header}: ", cell), soft_wrap=True)


def bar(on: Console, *columns: ProgressColumn) -> Progress:
    """Return a live bar on a terminal, hidden elsewhere: what is done, failures, time, columns."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failed]}[/]"),
        TimeElapsedColumn(),
        *columns,
        console=on,
        disable=not on.is_terminal,
    )


def fail(message: str) -> NoReturn:
    """End with exit status 2 and one line on standard error."""
    errors.print(f"flowgauge: error: {brief(message, LONGEST)}", style="red", soft_wrap=True)
    raise typer.Exit(2)


def shorten_warnings() -> None:
    """Show each warning once, in one line on standard error, without the code that gave it."""

    @functools.cache
    def warn(text: str) -> None:
        errors.print(f"flowgauge: warning: {text}", style="yellow", soft_wrap=True)

    warnings.showwarning = lambda message, *rest, **place: warn(str(message))


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Report a ValueError, or a file that cannot be read or written, in one line with status 2."""
    try:
        with system_errors():
            yield
    except ValueError as error:
        fail(str(error))


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """Report a full disk, or a file that cannot be read or written, in one line with status 2."""
    try:
        yield
    except OSError as error:
        if error.errno in (None, errno.EPIPE):  # a closed pipe: nobody reads standard output
            raise
        where = "" if error.filename is None else f"{str(error.filename)!r}: "
        fail(f"{where}{error.strerror}")


@contextlib.contextmanager
def clean_interrupt(outcome: str) -> Iterator[None]:
    """End with status 130 on Ctrl-C and SIGTERM, after clean-up, and print what is kept."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        errors.print(f"interrupted: {outcome}")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def check_writable(path: Path) -> None:
    """ValueError where a file cannot be written; its content stays."""
    if path == Path("-"):
        return
    existed = path.exists()
    try:
        with path.open("a"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise ValueError(f"cannot write {str(path)!r}: {error.strerror}") from error


def write(path: Path, text: str) -> None:
    """Write a file, or to standard output for "-"; ValueError if that fails."""
    if path == Path("-"):
        typer.echo(plain(text), nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write {str(path)!r}: {error.strerror}") from error
