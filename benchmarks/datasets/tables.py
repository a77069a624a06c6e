"""Tables of numbers in files of several formats, and their faults as data of a density."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.formats import brief
from benchmarks.core.naming import counted
from benchmarks.core.unpacking import array, parquet, zipped
from benchmarks.datasets.disk import read_npy

WIDEST = 100_000  # columns
FEWEST = 50  # rows below which a file is refused
FEW = (1000, 50)  # rows, and rows per column, below which flows can hardly be distinguished
PARTS = ("train", "val", "test")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*")
SPELLINGS = {"validation": "val", "valid": "val"}


@dataclass(frozen=True)
class Inspection:
    """Faults, which make a table unusable, remarks, and indices of columns of whole numbers."""

    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    integers: list[int] = field(default_factory=list)


def read_csv(path: Path) -> dict[str, pd.DataFrame]:
    """Read values separated by semicolons, tabs, bars, spaces or commas, with or without names.

    Unless the separator is a comma, decimals may be written with one. Both are decided by the first
    two lines (`csv.Sniffer`, which pandas' ``sep=None`` uses, fails on numbers without a line of
    names and on a single column).
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(islice(file, 2))
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8: save it in that encoding") from None
    if not lines:
        raise ValueError("it is empty")
    if (columns := max(map(lines[-1].count, ",;\t|"))) >= WIDEST:
        raise ValueError(f"it has {columns:,} columns, and {WIDEST:,} are the most")
    separator, rows = _separated(lines)
    decimal = "," if separator != "," and any(map(_DECIMAL_COMMA.fullmatch, rows[-1])) else "."
    named = _is_header(*([text.replace(decimal, ".") for text in row] for row in rows))
    try:
        table = pd.read_csv(
            path,
            sep=r"\s+" if separator == " " else separator,
            decimal=decimal,
            header=0 if named else None,
            na_values=["?"],
            skipinitialspace=True,
            encoding="utf-8-sig",
            low_memory=False,
        )
    except pd.errors.ParserError as error:
        raise ValueError(str(error).strip().rpartition("error: ")[2]) from error
    return {"all": table.rename(columns=str)}


def _separated(lines: Sequence[str]) -> tuple[str, list[list[str]]]:
    """Return the separator of the first lines, and their values.

    It splits every line into the same number of values, from two. The comma is tried last, since it
    may be the decimal mark; a space must separate numbers.
    """
    stripped = [line.strip(" \r\n") for line in lines]
    for separator in ";\t| ":
        try:
            rows = list(
                csv.reader(stripped, delimiter=separator, skipinitialspace=separator == " ")
            )
        except csv.Error:  # a wide line of another separator is too long for one value
            continue
        numbers = all(_is_number(text.replace(",", ".")) for text in rows[-1])
        if len({len(row) for row in rows}) == 1 < len(rows[0]) and (separator != " " or numbers):
            return separator, rows
    return ",", list(csv.reader(lines))


def read_parquet(path: Path) -> dict[str, pd.DataFrame]:
    """Read the columns of a parquet file."""
    with parquet(path) as file:
        return {"all": file.read().to_pandas().rename(columns=str)}


def read_array(path: Path) -> dict[str, pd.DataFrame]:
    """Read the array of an .npy file."""
    return {"all": _named(read_npy(path))}


def read_arrays(path: Path) -> dict[str, pd.DataFrame]:
    """Read the arrays `train`, `val` and `test` of an .npz file, or its only one."""
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not an .npz archive, or cut off")
    with zipped(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        arrays = {SPELLINGS.get(name, name): array(archive, name) for name in names}
    if len(arrays) == 1:
        arrays = {"all": next(iter(arrays.values()))}
    elif set(arrays) >= set(PARTS):
        arrays = {part: arrays[part] for part in PARTS}
    else:
        raise ValueError(f"it should hold one array or train, val and test, not {_list(arrays)}")
    for key, values in arrays.items():
        if values.ndim != 2:
            raise ValueError(f"{key} should have the shape (rows, columns), not {values.shape}")
    if len({values.shape[1] for values in arrays.values()}) > 1:
        raise ValueError("train, val and test differ in their number of columns")
    return {key: _named(values) for key, values in arrays.items()}


READERS: dict[str, Callable[[Path], dict[str, pd.DataFrame]]] = {
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".npy": read_array,
    ".npz": read_arrays,
}


def examine(tables: Mapping[str, pd.DataFrame], dequantised: bool) -> Inspection:
    """Inspect the parts of a table; one that is not all finite numbers is inspected no further."""
    table = pd.concat(tables.values(), ignore_index=True)
    rows, columns = table.shape
    if 0 < rows < 2 * columns:  # before anything that takes minutes for thousands of columns
        return Inspection(_too_few(tables, rows))
    if not len(table.columns) or not len(table):
        shape = f"{counted(len(table), 'row')} of {counted(len(table.columns), 'column')}"
        return Inspection([f"it holds {shape}"])
    if faults := _not_numbers(table):
        return Inspection(faults)
    x = table.to_numpy(dtype="float64")
    integer_columns = np.flatnonzero((x == np.round(x)).all(axis=0)).tolist()
    distinct = len(x) if dequantised else len(table.drop_duplicates())
    faults = _too_few(tables, distinct) or _degenerate(table, x)  # no eigenvalues of a wide table
    return Inspection(faults, _doubts(tables, table, integer_columns, dequantised), integer_columns)


def _not_numbers(table: pd.DataFrame) -> list[str]:
    faults = []
    for name, column in table.items():
        kind = column.dtype
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
            wrong = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
            content = f"text, {_short(wrong.iloc[0])} say" if len(wrong) else str(kind)
            faults.append(f"column {_short(name)} holds {content}: leave it out, or encode it")
    missing = table.isna()
    if rows := int(missing.any(axis=1).sum()):
        where = _columns(table, missing.any().to_numpy())
        faults.append(f"{rows:,} of {len(table):,} rows lack values ({where}): drop them, or fill")
    if not faults and np.isinf(x := table.to_numpy(dtype="float64")).any():
        faults.append(f"infinite values in {_columns(table, np.isinf(x).any(axis=0))}")
    return faults


def _degenerate(table: pd.DataFrame, x: np.ndarray) -> list[str]:
    """Faults that leave no density: constant and linearly dependent columns."""
    constant = (x == x[0]).all(axis=0)
    if constant.any():
        where = _columns(table, constant)
        return [f"{where} of one value alone: leave out, or no density exists"]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    if values[0] > 1e-12 * values[-1]:
        return []
    tied = np.abs(vectors[:, 0]) > 1e-3
    return [f"{_columns(table, tied)} are linearly dependent: leave one out, or no density exists"]


def _too_few(tables: Mapping[str, pd.DataFrame], distinct: int) -> list[str]:
    """Faults of size, of the training part or of the table that will be split."""
    first = next(iter(tables.values()))
    rows = min(len(first), distinct)
    needed = max(FEWEST, 2 * len(first.columns))
    if rows < needed:
        return [f"{rows:,} different rows of {len(first.columns)} columns: {needed} are needed"]
    return [f"its part {part} is empty" for part, table in tables.items() if not len(table)]


def _doubts(
    tables: Mapping[str, pd.DataFrame], table: pd.DataFrame, integers: list[int], dequantised: bool
) -> list[str]:
    remarks = []
    rows, columns = table.shape
    repeated = int(table.duplicated().sum())
    if repeated and len(tables) == 1 and not dequantised:
        remarks.append(f"{repeated:,} repeated rows, of which the first alone is kept")
    elif repeated and not dequantised:
        remarks.append(f"{repeated:,} rows stand in it more than once, perhaps in two parts")
    if integers and dequantised:
        noisy = counted(len(integers), "column")
        remarks.append(f"uniform noise in [0, 1) on {noisy} of whole numbers")
    elif integers:
        names = _list(table.columns[integers])
        remarks.append(
            f"whole numbers alone in {names}: likelihoods on them have no bound; the name with "
            ":dequantise at its end adds uniform noise"
        )
    if rows < max(FEW[0], FEW[1] * columns):
        remarks.append(f"{rows:,} rows of {counted(columns, 'column')} can hardly tell flows apart")
    return remarks


def _columns(table: pd.DataFrame, chosen: np.ndarray) -> str:
    return f"column{'s' * (int(chosen.sum()) > 1)} {_list(table.columns[chosen])}"


def _short(text: object) -> str:
    return repr(brief(text, 60))


def _list(names: Any, most: int = 6) -> str:
    quoted = [_short(name) for name in names]
    return ", ".join(quoted[:most]) + f" and {len(quoted) - most} more" * (len(quoted) > most)


def _named(values: np.ndarray) -> pd.DataFrame:
    native = values.astype(values.dtype.newbyteorder("="), copy=False)  # pandas takes no other
    return pd.DataFrame(native).rename(columns=str)


def _is_header(first: Sequence[str] = (), second: Sequence[str] = ()) -> bool:
    """Return whether the first line names columns: words above numbers, or 0, 1, 2, ..."""
    words = [bool(text.strip()) and not _is_number(text) for text in first]
    if not second:
        return any(words)
    above = any(word and _is_number(text) for word, text in zip(words, second, strict=False))
    return above or list(first) == [str(k) for k in range(len(first))]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip() == "?"
    return True
