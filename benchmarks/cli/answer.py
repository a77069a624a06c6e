"""The answer of a run in the terminal: its main table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich.table import Table

from benchmarks.cli.console import console, styled

if TYPE_CHECKING:
    from benchmarks.report.content import Report

ROWS = 20  # of a table, at most
SHORTEST = 16  # characters that the first column may have
BETWEEN = 3  # characters between two columns


def show(report: Report) -> None:
    """Print the main table of a report, as far as it fits."""
    if (main := report.main) is None:
        return
    headers, rows = main.grid.headers, main.grid.rows
    columns = [[row[i].text for row in rows[:ROWS]] for i in range(len(headers))]
    longest = [[*h.split(), *column] for h, column in zip(headers, columns, strict=True)]
    widths = [max(map(len, texts)) + BETWEEN for texts in longest]
    widths[0] = min(widths[0], max(SHORTEST, console.width // 3))  # long names fold
    fit = sum(sum(widths[: i + 1]) <= console.width for i in range(len(widths))) or 1
    table = Table(title=styled(main.title), title_justify="left", pad_edge=False)
    for header, width, right in zip(headers[:fit], widths, main.grid.numeric, strict=False):
        side: Literal["left", "right"] = "right" if right else "left"
        table.add_column(styled(header), justify=side, width=width - BETWEEN, overflow="fold")
    for row in rows[:ROWS]:
        cells = [styled(cell.text, "bold" if cell.best else "") for cell in row[:fit]]
        table.add_row(*cells)
    console.print(table)
    left = {"rows": len(rows) - ROWS, "columns": len(headers) - fit}
    if words := [f"{count} more {what}" for what, count in left.items() if count > 0]:
        console.print(f"{' and '.join(words)} in the report", soft_wrap=True)
