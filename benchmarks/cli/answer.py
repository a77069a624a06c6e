"""The answer of a run in the terminal: its main table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from benchmarks.cli.console import console, styled

if TYPE_CHECKING:
    from benchmarks.report.content import Report

ROWS = 20  # of a table, at most
BETWEEN = 3  # characters between two columns


def show(report: Report) -> None:
    """Print the main table of a report, as far as it fits."""
    if (main := report.main) is None:
        return
    headers, rows = main.grid.headers, main.grid.rows
    texts = [(header, *(row[i].text for row in rows[:ROWS])) for i, header in enumerate(headers)]
    widths = [max(map(len, column)) + BETWEEN for column in texts]
    fit = sum(sum(widths[: i + 1]) <= console.width for i in range(len(widths))) or 1
    table = Table(title=styled(main.title), title_justify="left", pad_edge=False)
    for i, header in enumerate(headers[:fit]):
        right = main.grid.numeric[i]
        table.add_column(styled(header), justify="right" if right else "left", no_wrap=True)
    for row in rows[:ROWS]:
        cells = [styled(cell.text, "bold" if cell.best else "") for cell in row[:fit]]
        table.add_row(*cells)
    console.print(table)
    left = {"rows": len(rows) - ROWS, "columns": len(headers) - fit}
    if words := [f"{count} more {what}" for what, count in left.items() if count > 0]:
        console.print(f"{' and '.join(words)} in the report", soft_wrap=True)
