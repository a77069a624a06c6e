"""The command ``flowgauge claims``: what records say of each claim of the deck."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from benchmarks.cli.console import console, usage_errors

if TYPE_CHECKING:
    from benchmarks.claims import Claim, Verdict

STYLES = {"confirmed": "green", "conditional": "yellow", "refuted": "red", "not measured": "dim"}
RESULTS = Path("results")

Folders = Annotated[
    list[Path] | None,
    typer.Argument(help="Results folders, the first to be asked first; all under results/."),
]
Only = Annotated[
    list[str] | None, typer.Option("--only", help="A claim's name or pattern; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="All of it as JSON.")]


def claims(folders: Folders = None, only: Only = None, as_json: Json = False) -> None:
    """Say what records make of each claim of the deck: confirmed, refuted, conditional.

    A claim is judged by the records of one folder alone, the first of FOLDERS that has what it
    needs: two runs differ in machine and budget. Without FOLDERS all under results/ are asked,
    those of the claim's own suite first, then the one with the most records. Exit status: 0, 2 for
    wrong usage.
    """
    with usage_errors():
        from benchmarks.core import plan, store

        chosen = _chosen(only)
        asked = folders or _all(RESULTS)
        frames = {folder: store.load(folder) for folder in asked}
        suites = {} if folders else {folder: plan.read(folder, {}).name for folder in asked}
        found = [_told(claim, *_judged(claim, frames, suites)) for claim in chosen]
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    _print(found)
    for folder in asked:
        _caution(folder)


def _caution(folder: Path) -> None:
    """Say which records are of code that has changed since."""
    from benchmarks.report import side

    if stale := side.read(folder).stale:
        told = f"{len(stale)} records of {folder} are stale: their code has changed since"
        console.print(f"note: {told}", style="yellow", soft_wrap=True)


def _chosen(only: Sequence[str] | None) -> list[Claim]:
    """The claims of these names or patterns, in the deck's order; ValueError for one of none."""
    from benchmarks.claims import claims as every

    known = every()
    for said in only or ():
        if not any(fnmatch(claim.id, said) for claim in known):
            ids = ", ".join(claim.id for claim in known)
            raise ValueError(f"no claim is named {said!r}; choose from: {ids}")
    return [c for c in known if only is None or any(fnmatch(c.id, said) for said in only)]


def _all(results: Path) -> list[Path]:
    """The results folders, that with the most records first; ValueError where there is none."""
    counts = {path.parent: len(list(path.glob("*.json"))) for path in results.glob("*/records")}
    if not counts:
        raise ValueError(
            f"there are no records under {str(results)!r}: flowgauge run quick makes some"
        )
    return sorted(counts, key=lambda folder: (-counts[folder], folder))


def _judged(
    claim: Claim, frames: dict[Path, Any], suites: dict[Path, str]
) -> tuple[Verdict, Path | None]:
    """The verdict of the first folder that has the records, and that folder.

    Folders of the claim's own suite come first. Of none, why the first could not judge it that has
    records of the claim's studies.
    """
    reasons: list[tuple[bool, Verdict]] = []
    for folder in sorted(frames, key=lambda folder: suites.get(folder) != claim.suite):
        frame = frames[folder]
        verdict = _safely(claim, frame)
        if verdict.outcome != "not_measured":
            return verdict, folder
        elsewhere = frame.empty or not frame["study"].isin(claim.studies).any()
        reasons.append((elsewhere, verdict))
    return min(reasons, key=lambda reason: reason[0])[1], None


def _safely(claim: Claim, frame: Any) -> Verdict:
    """The verdict; a fault of one claim must not cost the others theirs."""
    from benchmarks.claims import Verdict

    try:
        return claim.verdict(frame)
    except Exception as error:
        return Verdict("not_measured", f"It could not be judged: {type(error).__name__}: {error}")


def _told(claim: Claim, verdict: Verdict, folder: Path | None) -> dict[str, Any]:
    """A claim and its verdict as plain values."""
    about = {
        name: getattr(claim, name) for name in ("id", "page", "slide", "statement", "criterion")
    }
    shown = [] if folder is None else [str(path) for path in _shown(folder, verdict.exhibits)]
    return {
        **about,
        "verdict": verdict.outcome,
        "sentence": verdict.sentence,
        "folder": None if folder is None else str(folder),
        "exhibits": shown,
        "command": claim.remedy if folder is None else claim.command,
        "records": list(verdict.records),
    }


def _shown(folder: Path, exhibits: Sequence[str]) -> Iterator[Path]:
    """The files of a folder's report that show it, pictures before tables."""
    for name in exhibits:
        places = (
            folder / "report" / "figures" / f"{name}.png",
            folder / "report" / "tables" / f"{name}.csv",
        )
        yield from (path for path in places if path.is_file())


def _print(found: Sequence[dict[str, Any]]) -> None:
    """A line for each verdict, then what each claim says and what was measured of it."""
    table = Table("Slide", "Claim", "Verdict", "Records of")
    for row in found:
        word = row["verdict"].replace("_", " ")
        table.add_row(
            str(row["page"]), row["id"], f"[{STYLES[word]}]{word}[/]", row["folder"] or ""
        )
    console.print(table)
    for row in found:
        word = row["verdict"].replace("_", " ")
        console.print(f"\n[bold]{row['id']}[/] (slide {row['page']}): {escape(row['statement'])}")
        console.print(f"  [{STYLES[word]}]{word}[/]: {escape(row['sentence'])}", highlight=False)
        for path in row["exhibits"]:
            console.print(f"  {path}", markup=False, soft_wrap=True, highlight=False)
        if row["folder"]:
            again = f"  again: {row['command']}"
            console.print(again, markup=False, soft_wrap=True, highlight=False)
