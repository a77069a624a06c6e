"""Two audits compared: which rows have another verdict now."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.audit.ledger import WHERE, Row
from benchmarks.audit.plan import Scope
from benchmarks.audit.session import LATE

Place = tuple[object, ...]
FAULT, OPEN = "fault", "not confirmed"


def changes(before: Sequence[Row], after: Sequence[Row], scope: Scope) -> list[str]:
    """A line for each row within a scope whose verdict differs, of the libraries that both have.

    A family that one of them lacks is one line. Figures may differ as rounding does. What took too
    long to be judged is no change.
    """
    libraries = {row["library"] for row in before} & {row["library"] for row in after}
    old, new = (_verdicts(rows, libraries, scope) for rows in (before, after))
    late = {place[:2] for verdicts in (old, new) for place in verdicts if place[-1] == LATE}
    places = [place for place in {**old, **new} if place[:2] not in late]
    families = [{str(place[1]) for place in places if place in verdicts} for verdicts in (old, new)]
    lines = [f"{family}: no rows before" for family in sorted(families[1] - families[0])]
    lines += [f"{family}: no rows now" for family in sorted(families[0] - families[1])]
    return lines + [
        f"{_named(place)}: {old.get(place, 'no row')} before, {new.get(place, 'no row')} now"
        for place in places
        if old.get(place) != new.get(place) and place[1] in families[0] & families[1]
    ]


def versions(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """A line for each library of the second audit: its version, and that of the first."""
    old, new = ({row["library"]: row["version"] for row in rows} for rows in (before, after))
    return [
        f"{library} {version}" + (f" (before: {old.get(library, 'not audited')})")
        for library, version in new.items()
    ]


def _verdicts(rows: Sequence[Row], libraries: set[str], scope: Scope) -> dict[Place, str]:
    return {
        tuple(row[field] for field in WHERE): verdict(row)
        for row in rows
        if row["library"] in libraries and scope.has(row)
    }


def verdict(row: Row) -> str:
    """What an audit says of a row: passed, a fault, failed but not confirmed, or no verdict."""
    if row["passed"] is not False:
        return "passed" if row["passed"] else "not applicable"
    return FAULT if row["confirmed"] else OPEN


def is_fault(row: Row) -> bool:
    """Whether a row failed, and its library's own lines show it."""
    return verdict(row) == FAULT


def _named(place: Place) -> str:
    _, family, dim, dtype, parameters, row = place
    return f"{family}, D = {dim}, {dtype}, {parameters} parameters, {row}"
