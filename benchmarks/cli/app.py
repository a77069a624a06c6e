"""The command line, put together: each command is a module of this folder."""

from __future__ import annotations

import typer

from benchmarks.cli.ab import ab
from benchmarks.cli.baseline import app as baseline
from benchmarks.cli.check import check
from benchmarks.cli.claims import claims
from benchmarks.cli.compare import compare
from benchmarks.cli.cost import cost
from benchmarks.cli.data import app as data
from benchmarks.cli.docs import docs
from benchmarks.cli.list import list_members
from benchmarks.cli.merge import merge
from benchmarks.cli.pack import pack
from benchmarks.cli.report import report
from benchmarks.cli.run import run
from benchmarks.cli.status import status
from benchmarks.cli.submit import submit

app = typer.Typer(
    name="flowgauge",
    help="What normalizing-flow families cost and what they are worth, measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (run, status, submit, merge, pack, report, check, cost, claims, compare, ab, docs):
    app.command()(command)
app.command("list")(list_members)
app.add_typer(baseline, name="baseline")
app.add_typer(data, name="data")
