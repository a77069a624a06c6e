"""The command line, put together: each command is a module of this folder."""

from __future__ import annotations

from importlib.metadata import version
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from benchmarks.cli.ab import ab
from benchmarks.cli.audit import audit
from benchmarks.cli.baseline import app as baseline
from benchmarks.cli.check import check
from benchmarks.cli.choose import choose
from benchmarks.cli.claims import claims
from benchmarks.cli.compare import compare
from benchmarks.cli.console import console, fail, system_errors
from benchmarks.cli.cost import cost
from benchmarks.cli.data import app as data
from benchmarks.cli.docs import docs
from benchmarks.cli.history import app as history
from benchmarks.cli.list import list_members
from benchmarks.cli.report import report
from benchmarks.cli.run import merge, pack, run, status
from benchmarks.core.formats import plain


class Commands(TyperGroup):
    """All commands, whose arguments are not empty and are in UTF-8."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse an argument that is empty, as an unset variable of a shell is, or no UTF-8.

        Completion, which parses a line that is still being written, refuses none.
        """
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        for before, text in pairwise(["", *args]):
            if not text or (text.startswith("--") and text.endswith("=")):
                fail(f"an argument after {before!r} is empty: write it, or leave both out")
            if plain(text) != text:
                fail(f"the argument {plain(text)!r} is no plain text in UTF-8: choose another")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what the system refuses it, wherever that is, is one line."""
        with system_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    name="flowgauge",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
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


suites = (run, choose, status, merge, pack, report)
for command in (*suites, check, audit, cost, claims, compare, ab, docs):
    app.command()(command)
app.command("list")(list_members)
app.add_typer(baseline, name="baseline")
app.add_typer(data, name="data")
app.add_typer(history, name="history")
