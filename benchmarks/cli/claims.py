"""The command ``flowgauge claims``: verdicts of records on each claim of the lecture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from benchmarks.cli.console import console, styled, usage_errors, write
from benchmarks.cli.options import Plugin, load_plugins

if TYPE_CHECKING:
    from benchmarks.claims import Claim, Evidence, Verdict

STYLES = {
    "confirmed": "green",
    "conditional": "yellow",
    "undecided": "cyan",
    "refuted": "red",
    "not measured": "dim",
}
RESULTS = Path("results")

Folders = Annotated[
    list[Path] | None,
    typer.Argument(help="Results folders in order of preference (default: all under results/)."),
]
Only = Annotated[
    list[str] | None, typer.Option("--only", help="A claim's name or pattern; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print verdicts as JSON.")]


def claims(
    folders: Folders = None, only: Only = None, as_json: Json = False, plugin: Plugin = None
) -> None:
    """Judge each claim of the lecture by records: confirmed, refuted, conditional or undecided.

    Each claim is judged by the records of one folder, the first of FOLDERS that has those it needs:
    machine and budget differ between runs. Without FOLDERS all folders under results/ are tried,
    first those of the claim's own suite, then the one with the most records. Exit status: 0, 2 for
    wrong usage.
    """
    with usage_errors():
        from benchmarks.claims import Evidence
        from benchmarks.core.frame import load, of_one_place, plan_of
        from benchmarks.report.claims import by_run

        load_plugins(plugin)
        selected = _select(only)
        searched = folders or _results_folders(RESULTS)
        evidence = {folder: Evidence(of_one_place(load(folder))[0]) for folder in searched}
        suites = {} if folders else {folder: plan_of(folder, {}).name for folder in searched}
        rows = [_row(claim, *_judge(claim, evidence, suites)) for claim in selected]
        runs = by_run({row["id"]: row["runs"] for row in rows})
    if as_json:
        write(Path("-"), json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        return
    _print(rows)
    if len(searched) > 1 and len(runs):
        _print_runs(runs)
    for folder in searched:
        _warn_of_stale(folder)


def _warn_of_stale(folder: Path) -> None:
    """Print how many records of a folder are stale."""
    from benchmarks.report import runs

    (run,) = runs.read([folder])
    if run.stale:
        note = f"{len(run.stale)} records of {folder} are stale: flowgauge status says why"
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    if run.note:
        console.print(f"note: {folder}: {run.note}", style="yellow", soft_wrap=True)


def _select(only: Sequence[str] | None) -> list[Claim]:
    """The claims of these names or patterns, in the lecture's order; ValueError for one of none."""
    from benchmarks.claims import claims as every

    known = every()
    for pattern in only or ():
        if not any(fnmatch(claim.id, pattern) for claim in known):
            ids = ", ".join(claim.id for claim in known)
            raise ValueError(f"no claim is named {pattern!r}; choose from: {ids}")
    return [c for c in known if only is None or any(fnmatch(c.id, pattern) for pattern in only)]


def _results_folders(results: Path) -> list[Path]:
    """The results folders but the baseline, which measures in miniature; ValueError where none is.

    That with the most records comes first.
    """
    from benchmarks.core import store
    from benchmarks.report.runs import BASELINE

    paths = [path for path in results.glob("*") if store.is_folder(path) and path.name != BASELINE]
    counts = {path: len(store.read(path)) for path in paths}
    if not counts:
        raise ValueError(
            f"there are no records under {str(results)!r}: measure some by flowgauge run quick"
        )
    return sorted(counts, key=lambda folder: (-counts[folder], folder))


def _judge(
    claim: Claim, evidence: dict[Path, Evidence], suites: dict[Path, str]
) -> tuple[dict[Path, Verdict], Verdict, Path | None]:
    """The verdict of each folder, and that of the first that has the records, with the folder.

    Folders of the claim's own suite come first. Of none, why the first could not judge it that has
    records of the claim's studies.
    """
    order = sorted(evidence, key=lambda folder: suites.get(folder) != claim.suite)
    verdicts = {folder: _verdict(claim, evidence[folder]) for folder in order}
    for folder, verdict in verdicts.items():
        if verdict.outcome != "not_measured":
            return verdicts, verdict, folder

    def elsewhere(folder: Path) -> bool:
        frame = evidence[folder].frame
        return bool(frame.empty or not frame["study"].isin(claim.studies).any())

    return verdicts, verdicts[min(order, key=elsewhere)], None


def _verdict(claim: Claim, evidence: Evidence) -> Verdict:
    """The verdict; a claim that raises is not measured, so that the others are still judged."""
    from benchmarks.claims import Verdict
    from flows.plugins import FOREIGN, described

    try:
        return evidence.verdict(claim)
    except FOREIGN as error:
        return Verdict("not_measured", f"It could not be judged: {described(error)}")


def _row(
    claim: Claim, verdicts: dict[Path, Verdict], verdict: Verdict, folder: Path | None
) -> dict[str, Any]:
    """A claim and its verdict as plain values, with the outcomes of all folders."""
    from benchmarks.analysis import criteria
    from benchmarks.claims import LECTURE

    about = {
        name: getattr(claim, name)
        for name in ("id", "page", "place", "slide", "statement", "criterion")
    }
    files = [] if folder is None else [str(path) for path in _exhibits(folder, verdict.exhibits)]
    return {
        **about,
        "lecture": LECTURE,
        "verdict": verdict.outcome,
        "sentence": verdict.sentence,
        "strength": verdict.strength,
        "weakness": verdict.weakness,
        "check": claim.rule.check,
        "criteria": criteria.VERSION,
        "runs": {str(path): own.outcome for path, own in verdicts.items()},
        "folder": None if folder is None else str(folder),
        "exhibits": files,
        "command": claim.remedy if folder is None else claim.command,
        "records": list(verdict.records),
    }


def _exhibits(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """The files of a folder's report that show it, pictures before tables."""
    for name in names:
        places = (
            folder / "report" / "figures" / f"{name}.png",
            folder / "report" / "tables" / f"{name}.csv",
        )
        yield from (path for path in places if path.is_file())


def _print(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line for each verdict, then each claim with its sentence, exhibits and command."""
    from benchmarks.analysis.criteria import DATE, VERSION
    from benchmarks.claims import LECTURE

    table = Table("Slide", "Claim", "Verdict", "Records of")
    for row in rows:
        table.add_row(str(row["page"] or "–"), row["id"], _outcome(row), row["folder"] or "")
    console.print(f"Slides are those of {LECTURE}; criteria are of version {VERSION}, {DATE}.")
    console.print(table)
    for row in rows:
        kind = "check, " if row["check"] else ""
        claim = f" ({kind}{row['place']}): {row['statement']}"
        console.print(Text.assemble("\n", styled(row["id"], "bold"), styled(claim)))
        console.print(Text.assemble("  ", _outcome(row), styled(f": {row['sentence']}")))
        for side in ("strength", "weakness"):
            if row[side]:
                console.print(Text.assemble(f"  {side}: ", styled(row[side])))
        for path in row["exhibits"]:
            console.print(f"  {path}", soft_wrap=True)
        if row["folder"]:
            console.print(f"  again: {row['command']}", soft_wrap=True)


def _print_runs(runs: Any) -> None:
    """Print the outcome of each claim by each folder, and where folders contradict each other."""
    claim, *folders = runs
    table = Table(Column(claim, no_wrap=True), *(Path(name).name for name in folders))
    for row in runs.itertuples(index=False):
        table.add_row(*(styled(text, STYLES.get(text, "")) for text in row))
    console.print(table)


def _outcome(row: dict[str, Any]) -> Text:
    """The outcome of a verdict in words and in its colour."""
    words = row["verdict"].replace("_", " ")
    return styled(words, STYLES[words])
