"""The cells of a table as text: digits, "value ± error", the best of a column, marks; CSV."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import RECORDS, Column, Table
from benchmarks.core.formats import NOTHING, cell, markdown, number, with_error

DEFAULT = ".3g"
MARK = "†"
DOUBTFUL = (
    f"{MARK}: times that are not to be quoted, for the reasons that stand in the list of records."
)


@dataclass(frozen=True)
class Cell:
    """A text, the number behind it if there is one, and whether it is its column's best."""

    text: str
    value: float | None = None
    best: bool = False

    @property
    def markdown(self) -> str:
        """The text escaped for Markdown, bold where it is the best."""
        text = markdown(self.text)
        return f"**{text}**" if self.best else text


@dataclass(frozen=True)
class Grid:
    """A table ready for any format: headers, which columns hold numbers, rows of cells.

    ``doubtful`` says that some times are marked as not to be quoted.
    """

    headers: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    doubtful: bool = False


def sentence(title: str) -> str:
    """A title that other text can follow: it ends with a full stop if with nothing else."""
    return title if title.endswith((".", "?", "!")) else f"{title}."


def grid(table: Table, doubted: Collection[str] = ()) -> Grid:
    """The cells of a table; what is another column's error or mark appears with that.

    Times of records that are ``doubted`` are marked: in the header where all of a column are.
    """
    columns = [_column(table, name, column) for name, column in table.shown.items()]
    headers = [column.header for column in table.shown.values()]
    rows = [any(key in doubted for key in keys) for keys in table.rows_from]
    doubtful = False
    for place, (cells, column) in enumerate(zip(columns, table.shown.values(), strict=True)):
        times = [i for i, cell in enumerate(cells) if cell.value is not None]
        marked = [i for i in times if rows[i]] if column.kind == "time" else []
        doubtful = doubtful or bool(marked)
        if marked and marked == times:
            headers[place] += MARK
        else:
            for i in marked:
                cells[i] = replace(cells[i], text=cells[i].text + MARK)
    numeric = tuple(any(cell.value is not None for cell in cells) for cells in columns)
    return Grid(tuple(headers), numeric, tuple(zip(*columns, strict=True)), doubtful)


def _column(table: Table, name: str, column: Column) -> list[Cell]:
    """The cells of a column, with what is shown within it."""
    frame, missing = table.frame, [None] * len(table.frame)
    parts = (name, column.error, column.interval, column.prefix, column.mark)
    lists: list[list[Any]] = [frame[n].tolist() if n in frame else missing for n in parts]
    values, errors = (
        [float(item) * column.scale if _is_number(item) else math.nan for item in items]
        for items in lists[:2]
    )
    has_errors = column.error in frame
    digits = column.digits or _digits(values, has_errors)
    error_digits = table.columns.get(column.error, Column()).digits or None
    cells = []
    for value, error, (item, _, ends, prefix, mark) in zip(
        values, errors, zip(*lists, strict=True), strict=True
    ):
        text = with_error(value, error, digits, error_digits) if _is_number(item) else _text(item)
        if isinstance(ends, tuple):
            low, high = (number(float(end) * column.scale, digits) for end in ends)
            text += f" [{low}, {high}]"
        text = prefix + text if isinstance(prefix, str) else text
        text = f"{text} {mark}".strip() if isinstance(mark, str) else text
        cells.append(Cell(text, None if math.isnan(value) else value))
    leading = (i for i, leads in enumerate(frame.get(column.leads, ())) if leads is True)
    if (winner := next(leading, None)) is not None:
        alike = [cell.text for cell in cells].count(cells[winner].text)
        cells[winner] = replace(cells[winner], best=alike == 1)
    return cells


def csv(table: Table) -> str:
    """A table as CSV: its frame in base units, unrounded; in the last column its records' keys."""
    frame = table.frame.drop(columns=RECORDS, errors="ignore")
    if any(table.rows_from):
        keys = pd.Series(map(" ".join, table.rows_from), frame.index, dtype=object)
        frame = frame.assign(**{RECORDS: keys})
    text = frame.rename(columns=cell).map(lambda v: cell(v) if isinstance(v, str) else v)
    return str(text.to_csv(index=False, lineterminator="\n"))


def _digits(values: Sequence[float], has_errors: bool) -> str:
    """What a column without a specification gets: whole numbers no decimals, others `DEFAULT`."""
    finite = [value for value in values if math.isfinite(value)]
    if has_errors or any(not v.is_integer() or abs(v) >= 1e15 for v in finite):
        return DEFAULT
    return ",d" if any(abs(v) >= 10_000 for v in finite) else "d"


def _is_number(item: Any) -> bool:
    return isinstance(item, Real) and not isinstance(item, bool | np.bool_)


def _text(item: Any) -> str:
    if item is None or item is pd.NA or item is pd.NaT:
        return NOTHING
    if isinstance(item, bool | np.bool_):
        return "yes" if item else "no"
    return str(item)
