"""Output of the commands: plain text on two consoles, tables, files, and errors in one line."""

import contextlib
import errno
import functools
import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.core.formats import NOTHING, brief, plain

LONGEST = 4000  # characters of an error: some list all that there is to choose from
WIDEST = 500  # characters of a line that has to fit no terminal
INTERRUPTED = 130  # exit status after Ctrl-C
PRINTED = Path("-")  # a file that is standard output


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


def say(text: object, style: str = "", *, on: Console = console) -> None:
    """Print one line, however long."""
    on.print(text, style=style, soft_wrap=True)


def note(text: str) -> None:
    """Print a line that deserves attention."""
    say(f"note: {text}", "yellow")


def print_rows(
    headers: Sequence[str], rows: Sequence[Sequence[str | Text]], styles: Iterable[str] = ()
) -> None:
    """Print a table, or a paragraph a row where it is too wide; nothing if it is empty."""
    table = Table(*headers)
    styled_rows = list(zip(rows, [*styles] or [""] * len(rows), strict=True))
    for row, style in styled_rows:
        table.add_row(*row, style=style)
    width = console.measure(table, options=console.options.update(width=WIDEST)).maximum
    if rows and width <= console.width:
        console.print(table)
        return
    for (title, *cells), style in styled_rows:
        say(title, style)
        for header, cell in zip(headers[1:], cells, strict=True):
            if str(cell).strip() not in ("", NOTHING):
                say(Text.assemble(f"  {header}: ", cell if isinstance(cell, Text) else plain(cell)))


def print_list(rows: Iterable[tuple[str, str | Text]], title: str | None = None) -> None:
    """Print names and what each stands for."""
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for name, description in rows:
        table.add_row(styled(name, "bold"), description)
    console.print(table)


def fail(message: str) -> NoReturn:
    """End with exit status 2 and one line on standard error."""
    say(f"flowgauge: error: {brief(message, LONGEST)}", "red", on=errors)
    raise typer.Exit(2)


def shorten_warnings() -> None:
    """Show each warning once, in one line on standard error, without the code that gave it."""

    @functools.cache
    def warn(text: str) -> None:
        say(f"flowgauge: warning: {text}", "yellow", on=errors)

    warnings.showwarning = lambda message, *rest, **place: warn(str(message))


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Report a ValueError in one line with status 2; `system_errors` is around all commands."""
    try:
        yield
    except ValueError as error:
        fail(str(error))


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """Report a full disk, or a file that cannot be read or written, in one line with status 2."""
    try:
        yield
    except (OSError, RuntimeError) as failure:
        loops = type(failure) is RuntimeError  # of `Path.resolve`, for links without an end
        error = failure.__context__ if loops else failure
        if not isinstance(error, OSError) or error.errno in (None, errno.EPIPE):
            raise  # of a closed pipe: nobody reads standard output
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


def check_writable(*files: Path | None) -> None:
    """OSError where a file cannot be written, before anything is measured; its content stays.

    ValueError where two are standard output.
    """
    if files.count(PRINTED) > 1:
        raise ValueError("one file alone can be -, which prints it")
    for path in files:
        if path is not None and path != PRINTED:
            existed = path.exists()
            path.open("a").close()
            if not existed:
                path.unlink()


def write(path: Path | None, text: str) -> None:
    """Write a file, or to standard output for "-"; nothing for None."""
    if path == PRINTED:
        typer.echo(plain(text), nl=False)
    elif path is not None:
        path.write_text(text, encoding="utf-8")
