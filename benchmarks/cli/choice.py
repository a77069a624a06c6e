"""The answer of the chooser in the terminal and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from benchmarks.cli.console import console

if TYPE_CHECKING:
    from benchmarks.studies.choose.ranking import Choice


def choice_of(folder: Path) -> Choice:
    """What the records of a folder's plan say."""
    from benchmarks.report import runs
    from benchmarks.studies.choose.ranking import choices

    (run,) = runs.read([folder])
    return choices(run.frame[run.frame["study"] == "choose"])[0]


def show(choice: Choice) -> None:
    """Print the ranking, the answer and what to know of it."""
    from benchmarks.report.cells import grid
    from benchmarks.studies.choose.tables import COLUMNS, TERMINAL, ranking, rows_of

    cells = grid(ranking(choice))
    table = Table(box=None)
    for place, (name, column) in enumerate(COLUMNS.items()):
        if name in TERMINAL:
            side: Literal["left", "right"] = "right" if cells.numeric[place] else "left"
            table.add_column(column.label, justify=side, no_wrap=True)
    for row in cells.rows:
        table.add_row(*(c.text for c, name in zip(row, COLUMNS, strict=True) if name in TERMINAL))
    console.print(table)
    units = "Nats; ± half of the 95 % interval over test rows; seconds of updates."
    console.print(f"{rows_of(choice)}{units}", soft_wrap=True)
    if choice.flows:
        best = choice.flows[0]
        console.print(f"{best.name}: {best.configuration}", soft_wrap=True)
    console.print()
    console.print(choice.answer, style="bold", soft_wrap=True)
    for warning in choice.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)


def weights(folder: Path, key: str) -> str | None:
    """The folder of the weights of a case; None where they were not kept."""
    path = folder / "weights" / key
    return str(path) if path.is_dir() else None


def as_json(choice: Choice, folder: Path, target: str | None) -> dict[str, Any]:
    """The answer as JSON."""
    from benchmarks.core import store

    lists = {
        name: [
            ranked.as_json(store.read_one(folder, key).case, weights(folder, key))
            for ranked in listed
            for key in (ranked.row["key"],)
        ]
        for name, listed in (("ranking", choice.flows), ("baselines", choice.baselines))
    }
    about = {"data": choice.data, "target": target, "rows": choice.about}
    about["report"] = str(folder / "report" / "index.html")
    return {"answer": choice.answer, "warnings": choice.warnings, **lists, **about}
