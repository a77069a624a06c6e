"""Tables of numbers in files of several formats, and what is wrong with them for a density."""

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

from benchmarks.datasets.disk import read_npy

FEWEST = 50  # rows below which a file is refused
FEW = (1000, 50)  # rows, and rows a column, below which flows can hardly be told apart
PARTS = ("train", "val", "test")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*")
SPELLINGS = {"validation": "val", "valid": "val"}


@dataclass(frozen=True)
class Inspection:
    """Faults, which make a table unusable, remarks, and the places of columns of whole numbers."""

    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)


def read_csv(path: Path) -> dict[str, pd.DataFrame]:
    """Values apart by semicolons, tabs, bars, spaces or commas, with or without a line of names.

    Where it is not the comma that is between them, decimals may be written with one.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(islice(file, 2))
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8: save it as that") from None
    if not lines:
        raise ValueError("it is empty")
    apart, rows = _separated(lines)
    decimal = "," if apart != "," and any(map(_DECIMAL_COMMA.fullmatch, rows[-1])) else "."
    named = _is_heading(*([text.replace(decimal, ".") for text in row] for row in rows))
    try:
        table = pd.read_csv(
            path,
            sep=r"\s+" if apart == " " else apart,
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
    """What is between the values of the first lines, and these: as many in each, and several.

    The comma comes last, since it may be that of decimals; before it the space, between numbers.
    """
    stripped = [line.strip(" \r\n") for line in lines]
    for apart in ";\t| ":
        rows = list(csv.reader(stripped, delimiter=apart, skipinitialspace=apart == " "))
        numbers = all(_is_number(text.replace(",", ".")) for text in rows[-1])
        if len({len(row) for row in rows}) == 1 < len(rows[0]) and (apart != " " or numbers):
            return apart, rows
    return ",", list(csv.reader(lines))


def read_parquet(path: Path) -> dict[str, pd.DataFrame]:
    """A parquet file's columns."""
    return {"all": pd.read_parquet(path).rename(columns=str)}


def read_array(path: Path) -> dict[str, pd.DataFrame]:
    """The one array of an .npy."""
    return {"all": _named(read_npy(path))}


def read_arrays(path: Path) -> dict[str, pd.DataFrame]:
    """The arrays `train`, `val` and `test` of an .npz, or its only one."""
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz archive, or cut off")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {SPELLINGS.get(key, key): archive[key] for key in archive.files}
    if len(arrays) == 1:
        arrays = {"all": next(iter(arrays.values()))}
    elif set(arrays) >= set(PARTS):
        arrays = {part: arrays[part] for part in PARTS}
    else:
        raise ValueError(f"it should hold one array or train, val and test, not {_list(arrays)}")
    for key, array in arrays.items():
        if array.ndim != 2:
            raise ValueError(f"{key} should have the shape (rows, columns), not {array.shape}")
    if len({array.shape[1] for array in arrays.values()}) > 1:
        raise ValueError("train, val and test differ in their number of columns")
    return {key: _named(array) for key, array in arrays.items()}


READERS: dict[str, Callable[[Path], dict[str, pd.DataFrame]]] = {
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".npy": read_array,
    ".npz": read_arrays,
}


def examine(tables: Mapping[str, pd.DataFrame], dequantised: bool) -> Inspection:
    """What is wrong or doubtful; of a table that is not all numbers nothing more is asked."""
    table = pd.concat(tables.values(), ignore_index=True)
    found = Inspection()
    if not len(table.columns) or not len(table):
        found.faults.append(f"it holds {len(table)} rows of {len(table.columns)} columns")
        return found
    found.faults.extend(_not_numbers(table))
    if found.faults:
        return found
    x = table.to_numpy(dtype="float64")
    found.whole.extend(np.flatnonzero((x == np.round(x)).all(axis=0)).tolist())
    found.faults.extend(_degenerate(table, x))
    distinct = len(x) if dequantised else len(table.drop_duplicates())
    found.faults.extend(_too_few(tables, distinct))
    found.remarks.extend(_doubts(tables, table, found.whole, dequantised))
    return found


def _not_numbers(table: pd.DataFrame) -> list[str]:
    faults = []
    for name, column in table.items():
        kind = column.dtype
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
            wrong = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
            what = f"text, {str(wrong.iloc[0])!r} say" if len(wrong) else str(kind)
            faults.append(f"column {name!r} holds {what}: leave it out, or encode it in numbers")
    missing = table.isna()
    if rows := int(missing.any(axis=1).sum()):
        where = _columns(table, missing.any().to_numpy())
        faults.append(f"{rows:,} of {len(table):,} rows lack values ({where}): drop them, or fill")
    if not faults and np.isinf(x := table.to_numpy(dtype="float64")).any():
        faults.append(f"infinite values in {_columns(table, np.isinf(x).any(axis=0))}")
    return faults


def _degenerate(table: pd.DataFrame, x: np.ndarray) -> list[str]:
    """Where no density exists: constant columns, and columns that others make up."""
    constant = (x == x[0]).all(axis=0)
    if constant.any():
        where = _columns(table, constant)
        return [f"{where} of one value alone: leave out, for no density exists"]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    if values[0] > 1e-12 * values[-1]:
        return []
    tied = np.abs(vectors[:, 0]) > 1e-3
    return [f"{_columns(table, tied)} are linearly dependent: leave one out, or no density exists"]


def _too_few(tables: Mapping[str, pd.DataFrame], distinct: int) -> list[str]:
    """Of the part that is trained on, or of what will be split into the three."""
    first = next(iter(tables.values()))
    rows = min(len(first), distinct)
    needed = max(FEWEST, 2 * len(first.columns))
    if rows < needed:
        return [f"{rows:,} different rows of {len(first.columns)} columns: {needed} are needed"]
    return [f"its part {part} is empty" for part, table in tables.items() if not len(table)]


def _doubts(
    tables: Mapping[str, pd.DataFrame], table: pd.DataFrame, whole: list[int], dequantised: bool
) -> list[str]:
    remarks = []
    rows, columns = table.shape
    repeated = int(table.duplicated().sum())
    if repeated and len(tables) == 1 and not dequantised:
        remarks.append(f"{repeated:,} repeated rows, of which the first alone is kept")
    elif repeated and not dequantised:
        remarks.append(f"{repeated:,} rows stand in it more than once, perhaps in two parts")
    if whole and dequantised:
        remarks.append(f"uniform noise in [0, 1) on {len(whole)} columns of whole numbers")
    elif whole:
        names = _list(table.columns[whole])
        remarks.append(
            f"whole numbers alone in {names}: likelihoods on them have no bound; the name with "
            ":dequantise at its end adds uniform noise"
        )
    if rows < max(FEW[0], FEW[1] * columns):
        remarks.append(f"{rows:,} rows of {columns} columns can hardly tell flows apart")
    return remarks


def _columns(table: pd.DataFrame, chosen: np.ndarray) -> str:
    return f"column{'s' * (int(chosen.sum()) > 1)} {_list(table.columns[chosen])}"


def _list(names: Any, most: int = 6) -> str:
    shown = [repr(str(name)) for name in names]
    return ", ".join(shown[:most]) + f" and {len(shown) - most} more" * (len(shown) > most)


def _named(array: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(array).rename(columns=str)


def _is_heading(first: Sequence[str] = (), second: Sequence[str] = ()) -> bool:
    """Whether a table's first line names its columns: by words above numbers, or 0, 1, 2, ..."""
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
