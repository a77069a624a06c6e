"""The command ``flowgauge claims``: verdicts of records on each claim of the lecture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from benchmarks.cli.console import console, print_rows, styled, usage_errors, write
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


def claims(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Results folders in order of preference (default: all under results/)."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A claim's name or pattern; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdicts as JSON.")] = False,
    plugin: Plugin = None,
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
        frames = {folder: load(folder) for folder in folders or _results_folders(RESULTS)}
        searched = folders or sorted(frames, key=lambda folder: (-len(frames[folder]), folder))
        evidence = {folder: Evidence(of_one_place(frames[folder])[0]) for folder in searched}
        suites = {} if folders else {folder: plan_of(folder, {}).name for folder in searched}
        rows = [_row(claim, *_judge(claim, evidence, suites)) for claim in selected]
        runs = by_run({row["id"]: row["runs"] for row in rows})
    if as_json:
        write(Path("-"), json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        return
    _print(rows)
    if len(searched) > 1 and len(runs):
        claim, *names = runs
        headers = [claim, *(Path(name).name for name in names)]
        outcomes = [[styled(text, STYLES.get(text, "")) for text in row] for row in runs.values]
        print_rows(headers, outcomes)
    judging = {row["folder"] for row in rows}
    _print_notes([folder for folder in searched if str(folder) in judging])


def _select(only: Sequence[str] | None) -> list[Claim]:
    """Claims of these names or patterns, in the lecture's order; ValueError if one has no match."""
    from benchmarks.claims import claims as every

    for pattern in only or ():
        if not any(fnmatch(claim.id, pattern) for claim in every()):
            ids = ", ".join(claim.id for claim in every())
            raise ValueError(f"no claim is named {pattern!r}; choose from: {ids}")
    return [c for c in every() if only is None or any(fnmatch(c.id, pattern) for pattern in only)]


def _results_folders(results: Path) -> list[Path]:
    """The results folders but the baseline, which measures in miniature; ValueError if none."""
    from benchmarks.core import store
    from benchmarks.report.runs import BASELINE

    paths = [path for path in results.glob("*") if path.name != BASELINE]
    paths = [path for path in paths if store.is_folder(path)]
    if not paths:
        raise ValueError(
            f"there are no records under {str(results)!r}: measure some by flowgauge run quick"
        )
    return paths


def _judge(
    claim: Claim, evidence: dict[Path, Evidence], suites: dict[Path, str]
) -> tuple[dict[Path, Verdict], Verdict, Path | None]:
    """The verdict of each folder; the first that is one, with its folder.

    Folders of the claim's own suite come first. Where no folder has the records: the reason of the
    first that has some of the claim's studies, and None.
    """
    from benchmarks.claims import Verdict
    from flows.plugins import FOREIGN, described

    order = sorted(evidence, key=lambda folder: suites.get(folder) != claim.suite)
    verdicts = {}
    for folder in order:
        try:
            verdicts[folder] = evidence[folder].verdict(claim)
        except FOREIGN as error:  # the other claims are still judged
            reason = f"It could not be judged: {described(error)}"
            verdicts[folder] = Verdict("not_measured", reason)
    for folder, verdict in verdicts.items():
        if verdict.outcome != "not_measured":
            return verdicts, verdict, folder

    def elsewhere(folder: Path) -> bool:
        frame = evidence[folder].frame
        return bool(frame.empty or not frame["study"].isin(claim.studies).any())

    return verdicts, verdicts[min(order, key=elsewhere)], None


def _row(
    claim: Claim, verdicts: dict[Path, Verdict], verdict: Verdict, folder: Path | None
) -> dict[str, Any]:
    """A claim and its verdict as plain values, with the outcomes of all folders."""
    from benchmarks.claims import LECTURE, VERSION

    about = ("id", "page", "place", "slide", "statement", "criterion")
    places = [
        (folder or Path()) / "report" / place
        for name in verdict.exhibits
        for place in (f"figures/{name}.png", f"tables/{name}.csv")
    ]
    return {
        **{name: getattr(claim, name) for name in about},
        "lecture": LECTURE,
        "verdict": verdict.outcome,
        "sentence": verdict.sentence,
        "strength": verdict.strength,
        "weakness": verdict.weakness,
        "check": claim.check,
        "criteria": VERSION,
        "runs": {str(path): each.outcome for path, each in verdicts.items()},
        "folder": None if folder is None else str(folder),
        "exhibits": [str(path) for path in places if folder is not None and path.is_file()],
        "command": claim.remedy if folder is None else claim.command,
        "records": list(verdict.records),
    }


def _print(rows: Sequence[dict[str, Any]]) -> None:
    """Print a line for each verdict, then each claim with its sentence, exhibits and command."""
    from benchmarks.claims import DATE, LECTURE, VERSION

    console.print(f"Slides are those of {LECTURE}; criteria are of version {VERSION}, {DATE}.")
    outcomes = {row["id"]: row["verdict"].replace("_", " ") for row in rows}
    styles = {name: styled(words, STYLES[words]) for name, words in outcomes.items()}
    cells = [
        (
            styled(row["id"]),
            styled(row["page"] or "–"),
            styles[row["id"]],
            styled(row["folder"] or ""),
        )
        for row in rows
    ]
    print_rows(("Claim", "Slide", "Verdict", "Records of"), cells)
    for row in rows:
        kind = "check, " if row["check"] else ""
        claim = f" ({kind}{row['place']}): {row['statement']}"
        console.print(Text.assemble("\n", styled(row["id"], "bold"), styled(claim)))
        console.print(Text.assemble("  ", styles[row["id"]], styled(f": {row['sentence']}")))
        for side in ("strength", "weakness"):
            if row[side]:
                console.print(Text.assemble(f"  {side}: ", styled(row[side])))
        for path in row["exhibits"]:
            console.print(f"  {path}", soft_wrap=True)
        if row["folder"]:
            console.print(f"  again: {row['command']}", soft_wrap=True)


def _print_notes(folders: Sequence[Path]) -> None:
    """Print how many records of each folder are stale, and the note of its run."""
    from benchmarks.report import runs

    for folder in folders:
        (run,) = runs.read([folder])
        stale = f"{len(run.stale)} records of {folder} are stale: flowgauge status says why"
        for note in ([stale] if run.stale else []) + ([f"{folder}: {run.note}"] * bool(run.note)):
            console.print(f"note: {note}", style="yellow", soft_wrap=True)
