"""Tables as CSV: raw rows, and in the last column the keys of each one's records."""

from __future__ import annotations

import pandas as pd

from benchmarks.core.exhibit import RECORDS
from benchmarks.core.formats import cell
from benchmarks.report.content import Table
from benchmarks.report.formats import TableFormat, registry


def render(table: Table) -> str:
    """The frame of a table, in base units and unrounded."""
    frame = table.raw.frame.drop(columns=RECORDS, errors="ignore")
    if any(table.rows_from):
        keys = pd.Series(map(" ".join, table.rows_from), frame.index, dtype=object)
        frame = frame.assign(**{RECORDS: keys})
    text = frame.rename(columns=cell).map(lambda v: cell(v) if isinstance(v, str) else v)
    return str(text.to_csv(index=False, lineterminator="\n"))


registry.add("csv", TableFormat("CSV", "csv", "text/csv", render), __name__)
