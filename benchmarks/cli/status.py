"""The command ``flowgauge status``: which cases of a suite have a current record."""

from __future__ import annotations

import typer
from rich.table import Table

from benchmarks.cli.console import console, usage_errors
from benchmarks.cli.options import (
    Data,
    DataRoot,
    Device,
    Out,
    Overrides,
    Plugin,
    Studies,
    SuiteName,
    Threads,
    read_suite,
)

LISTED = 12  # labels that one row of the table names


def status(
    suite: SuiteName,
    study: Studies = None,
    out: Out = None,
    device: Device = None,
    threads: Threads = None,
    plugin: Plugin = None,
    overrides: Overrides = None,
    data: Data = None,
    data_root: DataRoot = None,
) -> None:
    """Say which cases are done, failed, stale or missing.

    Exit status: 0 all cases done, 1 some are not, 2 wrong usage or configuration.
    """
    with usage_errors():
        from benchmarks.core.naming import labels
        from benchmarks.execution.run import state

        plan, folder = read_suite(
            suite,
            study=study,
            out=out,
            overrides=overrides,
            device=device,
            threads=threads,
            plugin=plugin,
            data=data,
            data_root=data_root,
        )
        now = state(plan, folder)
    names = labels(now.cases)
    table = Table("Status", "Cases", "Which")
    groups = {"done": now.valid, "failed": now.failed, "stale": now.stale, "missing": now.missing}
    for group, keys in groups.items():
        members = [names[c.key] for c in now.cases if c.key in keys] if group != "done" else []
        listed = "; ".join(members[:LISTED]) + " …" * (len(members) > LISTED)
        table.add_row(group, str(len(keys)), listed)
    console.print(table)
    for case in now.cases:
        if case.key in now.failed:
            console.print(f"{names[case.key]}: {now.records[case.key].reason}", style="red")
    raise typer.Exit(0 if len(now.valid) == len(now.cases) else 1)
