"""The command ``flowgauge status``: which cases of a suite have a current record."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from benchmarks.cli.console import console, usage_errors, write
from benchmarks.cli.options import JsonFile, on_suite

if TYPE_CHECKING:
    from benchmarks.execution.tasks import Shard

WATCHED = 5.0  # seconds between two looks
LISTED = 12  # labels that one row of the table names


@on_suite
def status(
    plan: Any,
    folder: Path,
    json_file: JsonFile = None,
    shard: Annotated[str, typer.Option(help="K/N: part K of N of the suite alone.")] = "1/1",
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until nothing is stale or missing.")
    ] = False,
) -> None:
    """Say which cases are done, failed, stale or missing, and why.

    A record is stale where the version of something that it depends on was raised; where a pace
    was raised alone, its times are, and its counts and likelihoods are not. Exit status: 0 all
    cases done, 1 some are not, 2 wrong usage or configuration.
    """
    with usage_errors():
        from benchmarks.execution.constructed import faults
        from benchmarks.execution.state import state
        from benchmarks.execution.tasks import Shard
        from benchmarks.report.runs import not_checked

        part = Shard.of(shard)
        if watch:
            _watch(plan, folder, part)
        now = state(plan, folder, part)
        groups = now.named()
        missing = [case for case in now.cases if case.key in now.missing]
        reasons = faults(missing, each_dim=False) | now.newer
        for entry in groups["missing"]:
            entry["reason"] = reasons.get(entry["key"], entry["reason"])
        if json_file is not None:
            write(json_file, json.dumps(groups, indent=1, ensure_ascii=False) + "\n")
    if str(json_file) != "-":
        _print(groups)
        if note := not_checked(now.standings.values()):
            console.print(f"{note}; they count as current", style="yellow")
        for entry in groups["missing"]:
            if entry["key"] in reasons:
                console.print(f"{entry['label']}: {entry['reason']}", style="yellow")
    raise typer.Exit(0 if len(groups["done"]) == len(now.cases) else 1)


def _watch(plan: Any, folder: Path, shard: Shard) -> None:
    """Print a line whenever the numbers change, until no case is stale or missing."""
    from benchmarks.execution.claims import Claims
    from benchmarks.execution.state import state

    before = ""
    while True:
        now = state(plan, folder, shard)
        numbers = {g: len(getattr(now, g)) for g in ("done", "failed", "stale", "missing")}
        tasks = [name for name in Claims(folder).others() if not name.startswith("run-")]
        line = ", ".join(f"{number} {group}" for group, number in numbers.items())
        line += f"; {len(tasks)} being measured" if tasks else ""
        if line != before:
            console.print(line)
        if not (numbers["stale"] or numbers["missing"]):
            return
        before = line
        time.sleep(WATCHED)


def _print(groups: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    """Print how many cases stand where, and why those do that are not done."""
    from benchmarks.core.naming import counted

    table = Table("Status", "Cases", "Which")
    for group, cases in groups.items():
        names = [case["label"] for case in cases] if group != "done" else []
        listed = "; ".join(names[:LISTED]) + " …" * (len(names) > LISTED)
        table.add_row(group, str(len(cases)), listed)
    console.print(table)
    for case in groups["failed"]:
        console.print(f"{case['label']}: {case['reason']}", style="red")
    for group in ("stale", "done"):
        for reason, number in Counter(case["reason"] for case in groups[group]).items():
            if reason:
                console.print(f"{counted(number, 'case')} {group}: {reason}")
