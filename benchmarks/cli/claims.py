"""The command ``flowgauge claims``: verdicts of records on each claim of the lecture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.text import Text
from typer import Argument, Option

from benchmarks.cli.console import (
    PRINTED,
    console,
    note,
    print_rows,
    say,
    styled,
    usage_errors,
    write,
)
from benchmarks.cli.options import Plugin, Texts, load_plugins, split

if TYPE_CHECKING:
    from benchmarks.claims import Claim, Evidence

STYLES = {
    "confirmed": "green",
    "conditional": "yellow",
    "undecided": "cyan",
    "refuted": "red",
    "not measured": "dim",
}
RESULTS = Path("results")
FOLDERS = "Results folders in order of preference (default: all under results/)."


def claims(
    folders: Annotated[list[Path] | None, Argument(help=FOLDERS)] = None,
    only: Annotated[Texts, Option(help="Names or patterns of claims, a,b; repeatable.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print verdicts as JSON.")] = False,
    plugin: Plugin = None,
) -> None:
    """Judge each claim of the lecture by records: confirmed, refuted, conditional or undecided.

    Each claim is judged by the records of one folder, the first of FOLDERS that has those it needs:
    machine and budget differ between runs. Without FOLDERS all folders under results/ are tried,
    first those of the claim's own suite, then the one with the most records. Exit status: 0, 2 for
    wrong usage.
    """
    with usage_errors():
        from benchmarks.claims import together
        from benchmarks.core.frame import load, of_one_place, plan_of
        from benchmarks.report.claims import by_run
        from benchmarks.report.runs import read

        load_plugins(plugin)
        selected = _select(split(only) or ["*"])
        frames = {folder: load(folder) for folder in folders or _results_folders()}
        searched = folders or sorted(frames, key=lambda folder: (-len(frames[folder]), folder))
        evidence = together({folder: of_one_place(frames[folder])[0] for folder in searched})
        suites = {folder: plan_of(folder, {}).name for folder in searched}
        rows = []
        for claim in selected:
            order = sorted(searched, key=lambda f: not folders and suites[f] != claim.suite)
            rows.append(_row(claim, {folder: evidence[folder] for folder in order}))
            judge = next((suites[f] for f in order if str(f) == rows[-1]["folder"]), claim.suite)
            rows[-1]["planned"] = claim.suite if judge != claim.suite else None
        runs = by_run({row["id"]: row["runs"] for row in rows})
    if as_json:
        write(PRINTED, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        return
    _print(rows)
    if len(searched) > 1 and len(runs):
        cells = [[styled(text, STYLES.get(text, "")) for text in row] for row in runs.values]
        print_rows([Path(str(name)).name for name in runs], cells)
    judging = {row["folder"] for row in rows}
    for folder in (folder for folder in searched if str(folder) in judging):
        (run,) = read([folder])
        if run.stale:
            note(f"{len(run.stale)} records of {folder} are stale: flowgauge status says why")
        if run.note:
            note(f"{folder}: {run.note}")


def _select(patterns: Sequence[str]) -> list[Claim]:
    """Claims of these names or patterns, in the lecture's order; ValueError if one has no match."""
    from benchmarks.claims import claims as every
    from flows.registry import choices

    entries = every()
    for pattern in patterns:
        if not any(fnmatch(claim.id, pattern) for claim in entries):
            hint = choices(pattern, (claim.id for claim in entries), "flowgauge list claims")
            raise ValueError(f"no claim is named {pattern!r}; {hint}")
    return [claim for claim in entries if any(fnmatch(claim.id, pattern) for pattern in patterns)]


def _results_folders() -> list[Path]:
    """The results folders but the baseline, which measures in miniature; ValueError if none."""
    from benchmarks.core import store
    from benchmarks.report.runs import BASELINE

    paths = [p for p in RESULTS.glob("*") if p.name != BASELINE and store.is_folder(p)]
    if not paths:
        fault = f"there are no records under {str(RESULTS)!r}"
        raise ValueError(f"{fault}: measure some by flowgauge run quick")
    return paths


def _row(claim: Claim, evidence: Mapping[Path, Evidence]) -> dict[str, Any]:
    """A claim as plain values: the first verdict that is one, and the outcomes of all folders.

    Where no folder has the records: the reason of the first that has some of the claim's studies.
    """
    from benchmarks.claims import LECTURE, VERSION, Verdict
    from flows.plugins import FOREIGN, described

    verdicts = {}
    for path, records in evidence.items():
        try:
            verdicts[path] = records.verdict(claim)
        except FOREIGN as error:  # the other claims are still judged
            reason = f"It could not be judged: {described(error)}"
            verdicts[path] = Verdict("not_measured", reason)
    measured = [path for path, verdict in verdicts.items() if verdict.outcome != "not_measured"]
    frames = {path: records.frame for path, records in evidence.items() if len(records.frame)}
    related = [path for path, f in frames.items() if f["study"].isin(claim.reads).any()]
    chosen = [*measured, *related, *verdicts][0]
    verdict, folder = verdicts[chosen], chosen if measured else None
    about = ("id", "page", "place", "slide", "statement", "criterion")
    places = [
        chosen / "report" / place
        for name in claim.exhibits
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
    words = [row["verdict"].replace("_", " ") for row in rows]
    outcomes = [styled(word, STYLES[word]) for word in words]
    pairs = list(zip(rows, outcomes, strict=True))
    cells = [(r["id"], str(r["page"] or "–"), outcome, r["folder"] or "") for r, outcome in pairs]
    print_rows(("Claim", "Slide", "Verdict", "Records of"), cells)
    for row, outcome in pairs:
        kind = "check, " if row["check"] else ""
        claim = f" ({kind}{row['place']}): {row['statement']}"
        console.print(Text.assemble("\n", styled(row["id"], "bold"), styled(claim)))
        console.print(Text.assemble("  ", outcome, styled(f": {row['sentence']}")))
        for side in ("strength", "weakness"):
            if row[side]:
                console.print(f"  {side}: {row[side]}")
        for path in row["exhibits"]:
            say(f"  {path}")
        if row["planned"]:
            say(f"  the suite {row['planned']} is planned to decide this claim, this one is not")
        if row["folder"]:
            say(f"  again: {row['command']}")
