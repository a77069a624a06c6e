"""Output of the commands: plain text on two consoles, files, and usage errors in one line."""

from __future__ import annotations

import contextlib
import errno
import functools
import signal
import warnings
from collections.abc import Iterator
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
from rich.text import Text

from benchmarks.core.formats import brief, plain

LONGEST = 4000  # characters of an error: some list all that there is to choose from
INTERRUPTED = 130  # exit status after Ctrl-C
STOPPED = 75  # after SIGTERM or SIGUSR1, with checkpoints: EX_TEMPFAIL of sysexits.h


def styled(text: object, style: str = "") -> Text:
    """Plain text in one style, for a part of a line or of a table's cell."""
    return Text(plain(text), style=style)


class PlainConsole(Console):
    """A console on which a string is never markup and has no escapes: a style is a `Text`'s."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a string, of a table's cells too, as plain text."""
        return super().render_str(plain(text), **options)


console = PlainConsole()
errors = PlainConsole(stderr=True)


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
    warnings.showwarning = _show  # type: ignore[assignment]  # takes the rest by position


def _show(message: Warning | str, category: type[Warning], *place: Any) -> None:
    _warn(str(message))


@functools.cache
def _warn(text: str) -> None:
    errors.print(f"flowgauge: warning: {text}", style="yellow", soft_wrap=True)


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Report a ValueError in one line with status 2, and so what the system refuses."""
    try:
        with system_errors():
            yield
    except ValueError as error:
        fail(str(error))


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """Report a disk that is full, or a file that cannot be read or written, likewise."""
    try:
        yield
    except OSError as error:
        if error.errno in (None, errno.EPIPE):  # the latter is nobody's who reads standard output
            raise
        where = "" if error.filename is None else f"{str(error.filename)!r}: "
        fail(f"{where}{error.strerror}")


@contextlib.contextmanager
def clean_interrupt(outcome: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end with status 130 and what is kept, after all is cleaned up."""

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
    """ValueError where a file cannot be written; what it holds stays."""
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
