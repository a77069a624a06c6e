"""The cells of a table as text: digits, "value ± error", the best of a column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.exhibit import Column, Table

NOTHING = "–"  # an en dash stands for a number that there is not
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
DEFAULT = ".3g"


@dataclass(frozen=True)
class Cell:
    """A text, the number behind it if there is one, and whether it is its column's best."""

    text: str
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Grid:
    """A table ready for any format: headers, which columns hold numbers, rows of cells."""

    headers: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]


def sentence(title: str) -> str:
    """A title that other text can follow: it ends with a full stop if with nothing else."""
    return title if title.endswith((".", "?", "!")) else f"{title}."


def grid(table: Table) -> Grid:
    """The cells of a table; what is another column's error or mark appears with that."""
    shown = {name: column for name, column in table.shown.items() if name in table.frame}
    columns = [_column(table, name, column) for name, column in shown.items()]
    numeric = tuple(any(_shows_number(cell) for cell in column) for column in columns)
    headers = tuple(column.header for column in shown.values())
    return Grid(headers, numeric, tuple(zip(*columns, strict=True)))


def number(value: float, digits: str) -> str:
    """A number under a format specification; powers of ten as such, not as 1e-05."""
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = format(round(value) if digits.endswith("d") else value, digits)
    mantissa, _, exponent = text.partition("e")
    if exponent and digits.endswith("g") and 0 < int(exponent) < 6:
        text = _whole(float(text))  # 1230 rather than 1.23e+03
    elif exponent and not value:
        text = "0"
    elif exponent:
        text = f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    if not text.strip("-0."):
        text = text.lstrip("-")  # what rounds to nought has no sign
    return text.replace("-", "−")


def with_error(value: float, error: float, digits: str, error_digits: str | None = None) -> str:
    """ "value ± error"; the value alone where the error is not known.

    Unless a specification fixes the decimals, the error gets two significant digits and the value
    as many decimals as that takes.
    """
    if not math.isfinite(value) or not math.isfinite(error):
        return number(value, digits)
    if error_digits is None and digits.endswith("g") and error > 0:
        decimals = 1 - math.floor(math.log10(float(f"{error:.1e}")))
        if 0 <= decimals <= 6:
            digits = error_digits = f".{decimals}f"
        elif -5 <= decimals < 0:
            return f"{_signed(round(value, decimals))} ± {_signed(round(error, decimals))}"
    return f"{number(value, digits)} ± {number(error, error_digits or digits)}"


def best(values: Sequence[float], errors: Sequence[float] | None, better: str) -> int | None:
    """Which value is best; None if it does not beat the runner-up by more than the error.

    The error is the combined standard error of the two. Where it should be known and is not,
    nothing is called best.
    """
    sign = {"higher": 1.0, "lower": -1.0}[better]
    order = sorted(
        (i for i, v in enumerate(values) if math.isfinite(v)), key=lambda i: -sign * values[i]
    )
    if len(order) < 2:
        return None
    first, second = order[:2]
    margin = math.hypot(errors[first], errors[second]) if errors is not None else 0.0
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
    for part, told in (
        (column.interval, lambda text, ends: f"{text}{_interval(ends, column.scale, digits)}"),
        (column.prefix, lambda text, words: f"{words or ''}{text}"),
        (column.mark, lambda text, words: f"{text} {words or ''}".strip()),
    ):
        if part in frame:
            pairs = zip(cells, frame[part], strict=True)
            cells = [replace(cell, text=told(cell.text, beside)) for cell, beside in pairs]
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


def _shows_number(cell: Cell) -> bool:
    """Not so of a gap between words, which pandas keeps as a number."""
    return cell.value is not None and not math.isnan(cell.value)


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


def _whole(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.0f}"


def _signed(value: float) -> str:
    return _whole(value).replace("-", "−")
