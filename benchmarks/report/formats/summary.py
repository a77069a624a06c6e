"""The report as one short Markdown text that fits a comment on a pull request."""

from __future__ import annotations

from benchmarks.core.formats import markdown as escape
from benchmarks.report.content import Report
from benchmarks.report.formats import Files, Format, registry
from benchmarks.report.formats.markdown import facts, head, joined, notes, table

LIMIT = 65_536  # characters of a comment on GitHub; taken as bytes, which are never fewer
CUT = "The rest is left out here: it stands in report.md."


def files(report: Report) -> Files:
    """The summary."""
    yield "summary.md", render(report)


def render(report: Report) -> str:
    """Head, notes, failures and tables, without figures, in at most `LIMIT` bytes.

    All tables are cut to the same number of rows, the largest that fits, and say how many are
    left out. Where not even titles and notes fit, the text ends early and says so.
    """
    longest = max((len(item.grid.rows) for item in report.tables), default=0)
    low, high = 0, longest  # the number of rows is found by halves: `low` fits, or nothing does
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(_text(report, middle)) else (low, middle - 1)
    text = _text(report, low)
    return text if _fits(text) else _cut(text)


def _text(report: Report, rows: int) -> str:
    blocks = [*head(report), facts(report.header), *notes(report)]
    if report.undone:
        blocks += table(report.undone, most=rows)
    for section in report.sections:
        blocks.append(f"## {escape(section.study)}" if section.tables else "")
        for item in section.tables:
            blocks += table(item, most=rows)
    if report.claims:
        blocks += ["## Claims", *table(report.claims.table)]
        blocks += table(report.claims.by_run) if report.claims.by_run else []
    return joined(blocks)


def _fits(text: str) -> bool:
    return len(text.encode()) <= LIMIT


def _cut(text: str) -> str:
    """The text up to a whole line, and that it was cut."""
    room = LIMIT - len(f"\n\n{CUT}\n".encode())
    head = text.encode()[:room].decode(errors="ignore").rpartition("\n")[0]
    return f"{head.rstrip()}\n\n{CUT}\n"


registry.add("summary", Format(files), __name__)
