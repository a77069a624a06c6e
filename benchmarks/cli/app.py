"""The command line, put together: each command is a module of this folder."""

import re
from importlib.metadata import version
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from benchmarks.cli.check import check
from benchmarks.cli.choose import choose
from benchmarks.cli.claims import claims
from benchmarks.cli.console import console, fail, system_errors
from benchmarks.cli.data import app as data
from benchmarks.cli.data import list_members
from benchmarks.cli.gate import ab, baseline, compare
from benchmarks.cli.records import merge, pack, report, status
from benchmarks.cli.run import cost, run
from benchmarks.core.formats import plain

PANELS: dict[str, dict[str, Any]] = {
    "Choose and check": {"choose": choose, "check": check, "list": list_members, "data": data},
    "Measure": {"run": run, "status": status, "cost": cost, "merge": merge, "pack": pack},
    "Read": {"report": report, "claims": claims},
    "Gate": {"compare": compare, "baseline": baseline, "ab": ab},
}


class Readable:
    """Mixin for the help of a command: flowing paragraphs, a separate exit status, bare flags."""

    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:
        text = re.sub(r"\s+(?=Exit status)", "\n\n", help or "")
        help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
        super().__init__(*args, help=help, **options)  # type: ignore[call-arg]  # a mixin

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, of which a flag has no type."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # a mixin
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class Command(Readable, TyperCommand):
    """A command."""


class Commands(Readable, TyperGroup):
    """A command of commands; arguments must not be empty and must be UTF-8."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse an empty argument, as an unset shell variable gives, and one that is not UTF-8.

        A line that a shell completes is still being written: nothing of it is refused.
        """
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        for before, text in pairwise(["", *args]):
            if not text or (text.startswith("--") and text.endswith("=")):
                fail(f"an argument after {before!r} is empty: write it, or leave both out")
            if plain(text) != text:
                fail(f"the argument {plain(text)!r} is not plain text in UTF-8: choose another")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error of the system is one line."""
        with system_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands, name="flowgauge", no_args_is_help=True, pretty_exceptions_enable=False
)


def _print_version(asked: bool) -> None:
    if asked:
        console.print(f"flowgauge {version('flowgauge')}")
        raise typer.Exit


@app.callback()
def flowgauge(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, and stop."
        ),
    ] = False,
) -> None:
    """What normalizing-flow families cost and what they are worth, measured."""


for panel, commands in PANELS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, cls=Commands, rich_help_panel=panel)
            for each in command.registered_commands:
                each.cls = Command
        else:
            app.command(name, cls=Command, rich_help_panel=panel)(command)
