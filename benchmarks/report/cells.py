"""The cells of a table as text: digits, "value ± error", the best of a column, marks; CSV."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.criteria import LEVEL
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

    @property
    def is_number(self) -> bool:
        """Not so of a gap between words, which pandas keeps as a number."""
        return self.value is not None and not math.isnan(self.value)


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
    definitions = {name: column for name, column in table.shown.items() if name in table.frame}
    columns = [_column(table, name, column) for name, column in definitions.items()]
    headers = [column.header for column in definitions.values()]
    rows = [any(key in doubted for key in keys) for keys in table.rows_from]
    doubtful = False
    for place, column in enumerate(definitions.values()):
        times = [i for i, cell in enumerate(columns[place]) if cell.is_number]
        marked = [i for i in times if rows[i]] if column.kind == "time" else []
        doubtful = doubtful or bool(marked)
        if marked and marked == times:
            headers[place] += MARK
            continue
        for i in marked:
            cell = columns[place][i]
            columns[place][i] = replace(cell, text=cell.text + MARK)
    numeric = tuple(any(cell.is_number for cell in column) for column in columns)
    return Grid(tuple(headers), numeric, tuple(zip(*columns, strict=True)), doubtful)


def csv(table: Table) -> str:
    """A table as CSV: its frame in base units, unrounded; in the last column its records' keys."""
    frame = table.frame.drop(columns=RECORDS, errors="ignore")
    if any(table.rows_from):
        keys = pd.Series(map(" ".join, table.rows_from), frame.index, dtype=object)
        frame = frame.assign(**{RECORDS: keys})
    text = frame.rename(columns=cell).map(lambda v: cell(v) if isinstance(v, str) else v)
    return str(text.to_csv(index=False, lineterminator="\n"))


def best(values: Sequence[float], errors: Sequence[float] | None, better: str) -> int | None:
    """Which value is best; None if it does not beat the runner-up by more than chance allows.

    That is by the combined standard error of the two, at the level of `criteria` over all rivals
    (Bonferroni). Where an error should be known and is not, nothing is called best.
    """
    sign = {"higher": 1.0, "lower": -1.0}[better]
    order = sorted(
        (i for i, v in enumerate(values) if math.isfinite(v)), key=lambda i: -sign * values[i]
    )
    if len(order) < 2:
        return None
    first, second = order[:2]
    chance = NormalDist().inv_cdf(1 - LEVEL / 2 / (len(order) - 1))
    margin = chance * math.hypot(errors[first], errors[second]) if errors is not None else 0.0
    return first if sign * (values[first] - values[second]) > margin else None


def _column(table: Table, name: str, column: Column) -> list[Cell]:
    frame = table.frame
    raw = frame[name].tolist()
    values = [_value(item) * column.scale for item in raw]
    errors = None
    if column.error in frame:
        errors = [_value(item) * column.scale for item in frame[column.error]]
    digits = column.digits or _digits(raw, values, errors is not None)
    own = table.column(column.error).digits or None if errors is not None else None
    cells = []
    for i, (item, value) in enumerate(zip(raw, values, strict=True)):
        if not _is_number(item):
            cells.append(Cell(_text(item)))
        elif errors is None:
            cells.append(Cell(number(value, digits), value))
        else:
            cells.append(Cell(with_error(value, errors[i], digits, own), value))
    for part, combine in (
        (column.interval, lambda text, ends: f"{text}{_interval(ends, column.scale, digits)}"),
        (column.prefix, lambda text, words: f"{_beside(words)}{text}"),
        (column.mark, lambda text, words: f"{text} {_beside(words)}".strip()),
    ):
        if part in frame:
            pairs = zip(cells, frame[part], strict=True)
            cells = [replace(cell, text=combine(cell.text, beside)) for cell, beside in pairs]
    if column.better or column.leads:
        winner = (
            _marked(frame[column.leads])
            if column.leads in frame
            else best(values, errors, column.better)
            if column.better
            else None
        )
        if winner is not None and [c.text for c in cells].count(cells[winner].text) == 1:
            cells[winner] = replace(cells[winner], best=True)
    return cells


def _beside(words: Any) -> str:
    """A prefix or mark; empty if a row has none."""
    return words if isinstance(words, str) else ""


def _interval(ends: Any, scale: float, digits: str) -> str:
    """ " [low, high]"; empty where there is none."""
    if not isinstance(ends, tuple):
        return ""
    low, high = (number(float(end) * scale, digits) for end in ends)
    return f" [{low}, {high}]"


def _marked(leads: Iterable[Any]) -> int | None:
    return next((i for i, leading in enumerate(leads) if leading is True), None)


def _digits(raw: Sequence[Any], values: Sequence[float], has_errors: bool) -> str:
    """What a column without a specification gets: whole numbers no decimals, others `DEFAULT`."""
    finite = [value for value in values if math.isfinite(value)]
    if has_errors or any(not v.is_integer() or abs(v) >= 1e15 for v in finite):
        return DEFAULT
    return ",d" if any(abs(v) >= 10_000 for v in finite) else "d"


def _is_number(item: Any) -> bool:
    return isinstance(item, Real) and not isinstance(item, bool | np.bool_)


def _value(item: Any) -> float:
    return float(item) if _is_number(item) else math.nan


def _text(item: Any) -> str:
    if item is None or item is pd.NA or item is pd.NaT:
        return NOTHING
    if isinstance(item, bool | np.bool_):
        return "yes" if item else "no"
    return str(item)
