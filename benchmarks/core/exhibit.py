"""What a study shows: tables and figures, before any format is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

RECORDS = "records"  # the column of a table's frame that is not shown: each row's records' keys


def cells(frame: pd.DataFrame, values: pd.Series) -> pd.Series:
    """A table's cells: values of the cases that are done, the status of the others."""
    return values.astype(object).where(frame["status"] == "done", frame["status"])


def scientific(value: float) -> str:
    """ "1.6e-5"."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


@dataclass(frozen=True)
class Table:
    """Rows to be shown, raw: a report formats them, an export does not.

    ``frame`` has plain columns whose names are the headers, units in parentheses. ``digits`` maps
    a numeric column to its format specification (".3g"); ``errors`` a column to the column with
    its standard error, shown as one cell "value ± error". A cell that is a string is shown as it
    is: that is how a failed case appears. ``best`` marks columns whose best cell stands out,
    "higher" or "lower", by more than the two cells' errors; ``leads`` a column to the column of
    booleans that says which cell does, where a view knows of paired errors; ``marks`` a column to
    the column of texts that follow its cells. The column `RECORDS`, which is not shown as it is,
    has for each row a tuple of the keys of the records that it comes from.
    """

    name: str
    title: str
    note: str
    frame: pd.DataFrame
    digits: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    best: dict[str, str] = field(default_factory=dict)
    leads: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def rows_from(self) -> tuple[tuple[str, ...], ...]:
        """For each row the keys of the records that it comes from."""
        if RECORDS in self.frame:
            return tuple(tuple(keys) for keys in self.frame[RECORDS])
        return ((),) * len(self.frame)


@dataclass(frozen=True)
class Figure:
    """A picture: ``draw`` returns a matplotlib Figure when a report wants one."""

    name: str
    title: str
    note: str
    draw: Callable[[], Any]
    records: tuple[str, ...] = ()
