"""Commands on records that exist: ``status``, ``report``, ``merge`` and ``pack``."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Table
from typer import Argument, Exit, Option

from benchmarks.cli import options
from benchmarks.cli.console import PRINTED, console, errors, say, usage_errors, write
from benchmarks.core.naming import counted, undigested

if TYPE_CHECKING:
    from benchmarks.execution.plan import Shard

WATCHED = 5.0  # seconds between two looks
LISTED = 12  # labels that one row of the table names
FOLDERS = "A results folder, or a suite that was run; several are shown side by side."
PAGES = "Folder of the report (default: FOLDER/report, or results/A-vs-B/report for several)."
EXPLORER = "Write a page of all models, costs and evaluations instead, explorer.html."
WITHOUT = "Drop arrays of these names, samples,losses, for good; repeatable."


@options.on_suite
def status(
    plan: Any,
    folder: Path,
    json_file: options.JsonFile = None,
    shard: Annotated[str, Option(help="K/N: part K of N of the suite alone.")] = "1/1",
    watch: Annotated[
        bool, Option("--watch", help="Go on until no case is stale or missing.")
    ] = False,
) -> None:
    """Say which cases are done, failed, stale or missing, and why.

    A record is stale where the version of something that it depends on was raised; where a pace
    was raised alone, its times are, and its counts and likelihoods are not. Exit status: 0 all
    cases done, 1 some are not, 2 wrong usage or configuration.
    """
    with usage_errors():
        from benchmarks.execution.plan import Shard, faults_of_flows, state
        from benchmarks.report.runs import not_checked

        part = Shard.of(shard)
        if watch:
            _watch(plan, folder, part)
        now = state(plan, folder, part)
        groups = now.named()
        missing = [case for case in now.cases if case.key in now.missing]
        reasons = faults_of_flows(missing, each_dim=False) | now.newer
        for entry in groups["missing"]:
            entry["reason"] = reasons.get(entry["key"], entry["reason"])
        if json_file is not None:
            write(json_file, json.dumps(groups, indent=1, ensure_ascii=False) + "\n")
    if json_file != PRINTED:
        _print_groups(groups)
        if words := not_checked(s.unchecked for s in now.standings.values()):
            say(f"{words}; they count as current", "yellow")
        if words := undigested(now.records.values()):
            say(words, "yellow")
        for entry in groups["missing"]:
            if entry["key"] in reasons:
                say(f"{entry['label']}: {entry['reason']}", "yellow")
    raise Exit(0 if len(groups["done"]) == len(now.cases) else 1)


def _watch(plan: Any, folder: Path, shard: Shard) -> None:
    """Print a line whenever the numbers change, until no case is stale or missing."""
    from benchmarks.execution.plan import state

    before = ""
    while True:
        groups = state(plan, folder, shard).named()
        line = ", ".join(f"{len(cases)} {group}" for group, cases in groups.items())
        if line != before:
            say(line, on=errors)
        if not (groups["stale"] or groups["missing"]):
            return
        before = line
        time.sleep(WATCHED)


def _print_groups(groups: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    """Print how many cases stand where, and why those do that are not done."""
    table = Table("Status", "Cases", "Which")
    for group, cases in groups.items():
        names = [case["label"] for case in cases] if group != "done" else []
        text = "; ".join(names[:LISTED]) + " …" * (len(names) > LISTED)
        table.add_row(group, str(len(cases)), text)
    console.print(table)
    for case in groups["failed"]:
        console.print(f"{case['label']}: {case['reason']}", style="red")
    for group in ("stale", "done"):
        for reason, number in Counter(case["reason"] for case in groups[group]).items():
            if reason:
                console.print(f"{counted(number, 'case')} {group}: {reason}")


def report(
    folders: Annotated[list[Path], Argument(help=FOLDERS)],
    out: Annotated[options.File, Option(help=PAGES)] = None,
    plugin: options.Plugin = None,
    data_root: options.DataRoot = None,
    explorer: Annotated[bool, Option("--explorer", help=EXPLORER)] = False,
) -> None:
    """Draw the report of a results folder from its records, or of several side by side.

    For several folders, such as before and after a change, each table and figure has the series of
    all of them, named by folder. Times of different machines, or of CPU and GPU, are shown one
    after another and never in one table. To list what changed, use `flowgauge compare`.
    """
    with usage_errors():
        from benchmarks.report import explore, write

        options.load_plugins(plugin)
        options.use_data_root(data_root)
        page = (explore if explorer else write)(*map(_results_folder, folders), out=out)
    say(f"{'explorer' if explorer else 'report'}: {page}")


def _results_folder(name: Path) -> Path:
    """The folder that a path or a suite's name stands for, as `read_suite` would resolve it."""
    path, suites = Path("results") / name, Path(__file__).parents[1] / "suites"
    is_suite = (suites / f"{name}.toml").is_file()
    return path if is_suite and not name.exists() and path.is_dir() else name


def merge(
    folders: Annotated[list[Path], Argument(help="Results folders; they stay as they are.")],
    out: Annotated[Path, Option(help="Folder of the joined results.")],
) -> None:
    """Join results folders into one, such as those of shards that ran on several hosts.

    Where two have different records of one case, the current one is taken, then the newer one; the
    other is kept in OUT/superseded. Weights that were kept stay in the folders. Exit status: 0, 2
    for wrong usage.
    """
    with usage_errors():
        from benchmarks.core import store
        from benchmarks.core.frame import plan_of
        from benchmarks.execution import merging, suite

        conflicts, records = merging.merge(folders, out), store.read(out)
        planned = {case.key for case in plan_of(out, records).cases}
        with suppress(ValueError):  # of a plug-in that is not here
            every = {case.key for case in suite.read(str(out)).cases()}  # of all shards
            planned = every if planned <= every else planned
        missing = len(planned - records.keys())
    for conflict in conflicts:
        other = f"that of {conflict.superseded} is in {out / 'superseded'}"
        say(f"{conflict.label}: taken from {conflict.taken}; {other}", "yellow")
    lacking = f" of {len(planned)} cases: run the shards that are not done, and merge again"
    say(f"{len(records)} records in {out}" if not missing else f"{len(planned) - missing}{lacking}")


def pack(
    folder: Annotated[Path, Argument(help="A results folder.")],
    join: Annotated[
        bool, Option("--all", help="Join all existing parts into the new one.")
    ] = False,
    without: Annotated[options.Texts, Option(help=WITHOUT)] = None,
) -> None:
    """Move the loose records of a results folder into a new part, which is never rewritten.

    A part is ``records-0001.parquet`` with ``arrays-0001.zip``; all commands read loose and packed
    records alike. Exit status: 0, 2 for wrong usage or a folder that another command is using.
    """
    with usage_errors():
        from benchmarks.core import locks, store

        with locks.held(store.existing(folder)):
            table = store.pack(folder, join=join, without=options.split(without))
    say(f"nothing to pack in {str(folder)!r}" if table is None else f"packed: {table}")
