"""An audit as Markdown: what fails by how much, how a reader can see it, and every figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.audit.comparison import FAULT, OPEN, verdict
from benchmarks.audit.known import faults, seen_rows
from benchmarks.audit.ledger import Row
from benchmarks.audit.scripts import ESTIMATES, terms
from benchmarks.audit.session import LATE, allowed, excused
from benchmarks.core.formats import markdown, markdown_details, markdown_table
from benchmarks.core.naming import counted

AXES = {"dim": "D = ", "dtype": "", "parameters": ""}


def page(rows: Sequence[Row], scripts: Sequence[Row]) -> str:
    """The whole page of an audit."""
    return f"# Log-density audit\n\n{sections(rows, scripts)}\n"


def sections(rows: Sequence[Row], scripts: Sequence[Row]) -> str:
    """Its sections: libraries, faults with scripts, known faults, what is open, every figure."""
    parts = {
        "Libraries": _libraries(rows),
        "Faults": "\n\n".join(filter(None, (_remarks(rows), _failures(rows, scripts, FAULT)))),
        "Known faults": _known(rows),
        "Failed, not confirmed": _failures(rows, scripts, OPEN) or "None.",
        "Every figure": _figures(rows),
    }
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items())


def summary(rows: Sequence[Row]) -> str:
    """One line: families, rows, faults, and what is not confirmed."""
    faults, unconfirmed = (_count(rows, kind) for kind in (FAULT, OPEN))
    number = len({row["family"] for row in rows})
    families = f"{number} families" if number != 1 else "1 family"
    verdicts = f"{counted(faults, 'fault')}, {counted(unconfirmed, 'row')} not confirmed"
    return f"{families}, {counted(len(rows), 'row')}: {verdicts}"


def _count(rows: Iterable[Row], kind: str) -> int:
    """Rows of a family with this verdict at some size; what took too long is none."""
    return len({(r["family"], r["row"]) for r in rows if _is(r, kind)})


def _is(row: Row, kind: str) -> bool:
    return verdict(row) == kind and row["row"] != LATE


def _libraries(rows: Sequence[Row]) -> str:
    headers = ["Library", "Version", "Families", "Rows", "Faults", "Not confirmed", "Took too long"]
    cells = []
    for library, own in _grouped(rows, "library"):
        late = {row["family"] for row in own if row["row"] == LATE}
        families = {row["family"] for row in own}
        counts = [len(families), len(own), _count(own, FAULT), _count(own, OPEN), len(late)]
        cells.append([markdown(library), markdown(own[0]["version"]), *map(str, counts)])
    return markdown_table(headers, cells, range(2, 7))


def _failures(rows: Sequence[Row], scripts: Sequence[Row], kind: str) -> str:
    """A table of the rows that failed, and below it a script for each fault.

    Rows of a family that fail by the same error are one line.
    """
    entries = {(entry["family"], entry["row"]): entry for entry in scripts}
    groups: dict[tuple[str, str], list[tuple[str, list[Row], list[Row]]]] = {}
    for (family, name), own in _by(rows, "family", "row"):
        if failed := [row for row in own if _is(row, kind)]:
            error = all(row["bound"] is None for row in failed)
            note = entries.get((family, name), {}).get("note", "") if error else ""
            groups.setdefault((family, note or name), []).append((name, failed, own))
    cells, folded = [], []
    for (family, cause), group in groups.items():
        (name, failed, own), more = group[0], len(group) - 1
        entry = entries.get((family, name), {})
        figures = ["error", "–"] if cause != name else _pair(max(failed, key=_ratio))
        label = f"{name} and {more} more" if more else name
        why = markdown(cause) if cause != name else ""
        if kind == OPEN:
            why = _reason(max(failed, key=_ratio), entry)
        elif entry.get("script"):
            folded.append(_script(entry))
        cells.append([f"`{family}`", label, *figures, _where(failed, own), why])
    headers = ["Family", "Row", "Figure", "Bound", "Where", "Note"]
    return "\n\n".join([markdown_table(headers, cells, (2, 3)), *folded]) if cells else ""


def _reason(row: Row, entry: Row) -> str:
    """Why a failure is no fault."""
    own = terms(row["library"], row["family"])
    if row["row"] in own["excused"]:
        return markdown(own["remark"])
    if own["estimated"] and row["row"] in ESTIMATES:
        return "an estimate, which is right on average: see estimated log-determinant"
    if excused(row):
        return f"within what the library's stated tolerance leaves, {allowed(row):.0e}"
    if not entry.get("script"):
        return "no lines of the library to confirm it by"
    if entry["confirmed"]:
        return "a fault at other sizes; here the library's own lines stay within the bound"
    return f"the library's own lines give {markdown(entry['output'].rpartition(chr(10))[2])}"


def _remarks(rows: Sequence[Row]) -> str:
    """What the failures of families have in common, each remark once."""
    families: dict[str, list[str]] = {}
    failed = {row["family"]: row["library"] for row in rows if row["passed"] is False}
    for family, library in failed.items():
        families.setdefault(terms(library, family)["remark"], []).append(f"`{family}`")
    lines = [f"- {', '.join(names)}: {markdown(text)}" for text, names in families.items() if text]
    return "\n".join(lines)


def _script(entry: Row) -> str:
    """A fault's script and what it printed, folded."""
    where = f"D = {entry['dim']}, {entry['dtype']}, {entry['parameters']} parameters"
    title = f"{entry['family']}: {entry['row']} ({where})"
    code = f"```py\n{entry['script']}```\n\nIt printed:\n\n```text\n{entry['output']}\n```"
    note = f"\n\nThe kit: {markdown(entry['note'])}" if entry["note"] else ""
    return markdown_details(title, code + note)


def _where(failed: Sequence[Row], judged: Sequence[Row]) -> str:
    """At which sizes a row failed; an axis along which all failed is left out."""
    parts = []
    for axis, prefix in AXES.items():
        values = list(dict.fromkeys(row[axis] for row in failed))
        if len(values) < len({row[axis] for row in judged}):
            parts.append(prefix + ", ".join(map(str, values)))
    return "; ".join(parts) or "everywhere"


def _known(rows: Sequence[Row]) -> str:
    """The faults that were reported elsewhere: seen by which rows, or why not."""
    cells = []
    for fault in faults():
        seen = seen_rows(fault, rows)
        answer = f"seen: {', '.join(seen)}" if seen else fault["otherwise"]
        cells.append([fault["library"], fault["source"], markdown(fault["about"]), answer])
    return markdown_table(["Library", "Source", "Fault", "Here"], cells, ())


def _figures(rows: Sequence[Row]) -> str:
    """For each family a folded table of its rows, each at the size where it is worst."""
    parts = []
    for family, own in _grouped(rows, "family"):
        cells = []
        for name, same in _grouped(own, "row"):
            worst = max(same, key=lambda row: (row["passed"] is False, _ratio(row)))
            where = f"D = {worst['dim']}, {worst['dtype']}, {worst['parameters']}"
            cells.append([name, *_pair(worst), verdict(worst), where])
        table = markdown_table(["Row", "Figure", "Bound", "Verdict", "Worst at"], cells, (1, 2))
        kinds = (_count(own, FAULT), "fault"), (_count(own, OPEN), "row")
        title = f"{family}: {counted(*kinds[0])}, {counted(*kinds[1])} not confirmed"
        parts.append(markdown_details(title, table))
    return "\n\n".join(parts)


def _ratio(row: Row) -> float:
    """A figure in units of its bound; infinite for a failure without one."""
    figure, bound = row["figure"], row["bound"]
    if figure is None:
        return math.inf if row["passed"] is False else -math.inf
    return float(figure / bound) if bound else float(figure)


def _pair(row: Row) -> list[str]:
    """Figure and bound; an error where there is no figure."""
    failed = row["passed"] is False and row["row"] != LATE
    nothing = ("error" if row["bound"] is None else "NaN") if failed else "–"
    figures = [row["figure"], row["bound"]]
    return [
        f"{v:.2g}" if v is not None else n for v, n in zip(figures, (nothing, "–"), strict=True)
    ]


def _by(rows: Sequence[Row], *fields: str) -> list[tuple[Any, list[Row]]]:
    """Rows in groups of equal fields, in their order."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[field] for field in fields), []).append(row)
    return list(groups.items())


def _grouped(rows: Sequence[Row], field: str) -> list[tuple[str, list[Row]]]:
    return [(str(value), own) for (value,), own in _by(rows, field)]
