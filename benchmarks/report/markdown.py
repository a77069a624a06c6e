"""The report in GitHub's Markdown: whole, or as a summary that fits a comment."""

import json
from collections.abc import Iterable

from benchmarks.core.formats import NOTHING, markdown_details, markdown_table
from benchmarks.core.formats import markdown as escape
from benchmarks.report.content import References, Report, Section, Table
from benchmarks.report.runs import Facts

LISTED = (
    "The numbers are those of [tables/{0}.csv](tables/{0}.csv), which has each record's key, case "
    "and state."
)
FILES = {"Figure": "figures/{}.png", "Table": "tables/{}.csv"}  # what links lead to
LIMIT = 65_536  # characters of a comment on GitHub; taken as bytes, which are never fewer
ROWS = 30  # of a table in a summary
CUT = "The rest is left out here: it stands in report.md."


def render(report: Report) -> str:
    blocks = _head(report)
    for section in report.sections:
        blocks += _section(section, report.references)
    blocks += claims(report)
    blocks.append("## Not done")
    if report.undone:
        blocks += [*table(report.undone, report.references), _files(report.undone)]
    else:
        blocks.append("Every case has a result.")
    blocks += ["## Provenance", facts(report.provenance)]
    if report.plan.suite:
        suite = json.dumps(report.plan.suite, indent=2, ensure_ascii=False)
        blocks.append(markdown_details("The suite as read", f"```json\n{suite}\n```"))
    if report.records:
        blocks += ["## Records", LISTED.format(report.records.name)]
    return _joined(blocks)


def _joined(blocks: Iterable[str]) -> str:
    return "\n\n".join(filter(None, blocks)) + "\n"


def _head(report: Report) -> list[str]:
    """The title of a report, what was measured for what, and the notes of all sections."""
    title, about = escape(report.plan.name), escape(report.plan.about)
    notes = [_notes(section.notes) for section in report.sections]
    first = escape(report.main.raw.first or "") if report.main else ""
    return [f"# {title}", about, f"**{first}**" if first else "", facts(report.header), *notes]


def facts(items: Facts) -> str:
    pairs = items.items()
    return "\n".join(f"- **{term}:** {'; '.join(map(escape, lines))}" for term, lines in pairs)


def claims(report: Report) -> list[str]:
    """The table of verdicts, then what each of them was judged by and what shows it."""
    if not report.verdicts:
        return []
    lines, judged = [], report.judged
    for judgement in judged.judgements:
        claim, run = judgement.claim, f" ({escape(judgement.run)})" if judgement.run else ""
        links = [
            f"[{item.kind} {item.number}]({FILES[item.kind].format(item.name)})"
            for item in report.exhibits(claim.exhibits)
        ]
        again = f"`{claim.command}` measures it again"
        verdict = judgement.verdict
        beside = f"For the verdict: {verdict.strength} Against it: {verdict.weakness}"
        criterion = f"- **{claim.id}**{run}: {escape(claim.criterion)} {escape(beside)}"
        lines.append(" · ".join([criterion, *links, again]))
    needed = [f"`{command}` measures what {ids} need" for command, ids in judged.missing.items()]
    return [
        "## Claims",
        _notes(judged.notes),
        *table(report.verdicts[0], report.references),
        *(line for other in report.verdicts[1:] for line in table(other)),
        markdown_details("What confirms or refutes them, and what shows it", "\n".join(lines)),
        f"Not judged by these records: {'; '.join(needed)}." if needed else "",
    ]


def table(item: Table, references: References | None = None, most: int | None = None) -> list[str]:
    """A title, the table, its note; ``most`` rows of it, ``references`` to records in the last."""
    cited = references if any(item.raw.rows_from) else None
    last = ["Records"] if cited else []
    rows = []
    for row, keys in list(zip(item.grid.rows, item.raw.rows_from, strict=True))[:most]:
        numbers = [cited.text(keys) if keys else NOTHING] if cited else []
        rows.append([*(cell.markdown for cell in row), *numbers])
    numeric = [place for place, right in enumerate(item.grid.numeric) if right]
    rest = len(item.grid.rows) - len(rows)
    return [
        f"### Table {item.number}. {escape(item.title)}",
        markdown_table([*map(escape, item.grid.headers), *last], rows, numeric),
        f"{rest} of {len(item.grid.rows)} rows are left out here." if rest else "",
        escape(item.note),
    ]


def _section(section: Section, references: References) -> list[str]:
    blocks = [f"## {escape(section.study)}", escape(section.question), _notes(section.notes)]
    for figure in section.figures:
        title, records = escape(figure.title), references.text(figure.records)
        blocks += [
            f"### Figure {figure.number}. {title}",
            f"![{title}](figures/{figure.name}.png)",
            escape(figure.note),
            f"Records {records}." if records else "",
        ]
    for item in section.tables:
        blocks += [*table(item, references), _files(item)]
    return blocks


def _files(item: Table) -> str:
    return f"[CSV](tables/{item.name}.csv) · [LaTeX](tables/{item.name}.tex)"


def _notes(notes: Iterable[str]) -> str:
    return "\n>\n".join(f"> **Note:** {escape(note)}" for note in notes)


def summary(report: Report) -> str:
    """Head, notes, failures and tables, without figures, in at most `LIMIT` bytes.

    Tables have at most `ROWS` rows, and say how many are left out. Where that is too long, the text
    ends early and says so.
    """
    blocks = _head(report)
    if report.undone:
        blocks += table(report.undone, most=ROWS)
    for section in report.sections:
        blocks.append(f"## {escape(section.study)}" if section.tables else "")
        for item in section.tables:
            blocks += table(item, most=ROWS)
    if report.verdicts:
        blocks += ["## Claims", *(line for item in report.verdicts for line in table(item))]
    text = _joined(blocks)
    if len(text.encode()) <= LIMIT:
        return text
    room = LIMIT - len(f"\n\n{CUT}\n".encode())
    head_of = text.encode()[:room].decode(errors="ignore").rpartition("\n")[0]
    return f"{head_of.rstrip()}\n\n{CUT}\n"
