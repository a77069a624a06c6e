"""Tables of numbers in files of several formats."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.core.unpacking import array, parquet, unpacked, zipped
from benchmarks.datasets.disk import read_npy
from benchmarks.datasets.inspection import quoted

WIDEST = 100_000  # columns
PARTS = ("train", "val", "test")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*")
SPELLINGS = {"validation": "val", "valid": "val"}


def read_csv(path: Path) -> dict[str, pd.DataFrame]:
    """Read values separated by semicolons, tabs, bars, spaces or commas, with or without names.

    Unless the separator is a comma, decimals may be written with one. Both are decided by the first
    two lines (`csv.Sniffer`, which pandas' ``sep=None`` uses, fails on numbers without a line of
    names and on a single column). Lines before them that begin with "#" are passed over; the last
    names the columns if it has as many words. A file that is compressed is decompressed. Columns
    that share a name get numbers behind it, and are listed in ``attrs["shared"]``.
    """
    content = _content(path)
    try:
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
        comments, lines = _opening(text)
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
            io.BytesIO(content),
            sep=r"\s+" if separator == " " else separator,
            decimal=decimal,
            header=0 if named else None,
            na_values=["?"],
            skiprows=len(comments),
            skipinitialspace=True,
            encoding="utf-8-sig",
            low_memory=False,
        )
    except pd.errors.ParserError as error:
        raise ValueError(str(error).strip().rpartition("error: ")[2]) from error
    words = _words(comments, separator)
    if not named and len(words) == len(table.columns) == len(set(words)):
        table.columns = pd.Index(words)
    table = table.rename(columns=str)
    if named:
        count = Counter(rows[0])
        pairs = zip(table, rows[0], strict=False)
        table.attrs["shared"] = [column for column, name in pairs if count[name] > 1]
    return {"all": table}


def _content(path: Path) -> bytes:
    """Return the bytes of a file, decompressed."""
    with unpacked(path) as file:
        return file.read()


def _opening(text: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the comments and empty lines before the values, and their first two lines."""
    comments: list[str] = []
    lines: list[str] = []
    for line in text:
        if not lines and (line.startswith("#") or not line.strip()):
            comments.append(line)
            continue
        lines.append(line)
        if len(lines) == 2:
            break
    return comments, lines


def _words(comments: Sequence[str], separator: str) -> list[str]:
    """Return the words of the last comment that is not empty."""
    last = next((line for line in reversed(comments) if line.strip(" #\r\n")), "")
    text = last.strip("# \r\n")
    return text.split() if separator == " " else [word.strip() for word in text.split(separator)]


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
    """Read the arrays `train`, `val` and `test` of an .npz file, its only one, or `X` and `y`.

    The columns of y, `y` or `y0, y1, ...`, are targets, which the table's ``attrs`` name.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not an .npz archive, or cut off")
    with zipped(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        arrays = {SPELLINGS.get(name, name): array(archive, name) for name in names}
    if {key.lower() for key in arrays} == {"x", "y"}:
        return {"all": _with_target({key.lower(): values for key, values in arrays.items()})}
    if len(arrays) == 1:
        arrays = {"all": next(iter(arrays.values()))}
    elif set(arrays) >= set(PARTS):
        arrays = {part: arrays[part] for part in PARTS}
    else:
        raise ValueError(
            f"it should hold one array, X and y, or train, val and test, not {quoted(arrays)}"
        )
    for key, values in arrays.items():
        if values.ndim != 2:
            raise ValueError(f"{key} should have the shape (rows, columns), not {values.shape}")
    if len({values.shape[1] for values in arrays.values()}) > 1:
        raise ValueError("train, val and test differ in their number of columns")
    return {key: _named(values) for key, values in arrays.items()}


def _with_target(arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    x, y = arrays["x"], arrays["y"]
    if x.ndim != 2 or y.ndim not in (1, 2) or len(y) != len(x) or y.size == 0:
        raise ValueError(
            f"X and y should have the shapes (N, D) and (N,) or (N, K), not {x.shape}, {y.shape}"
        )
    targets = _named(y.reshape(len(y), -1))
    targets.columns = [f"y{name}" for name in targets] if targets.shape[1] > 1 else ["y"]
    table = pd.concat([_named(x), targets], axis=1)
    table.attrs["targets"] = list(targets)
    return table


TEXT = (".csv", ".tsv", ".dat", ".txt")
READERS: dict[str, Callable[[Path], dict[str, pd.DataFrame]]] = {
    **dict.fromkeys(TEXT, read_csv),
    **{f"{suffix}.gz": read_csv for suffix in TEXT},
    ".parquet": read_parquet,
    ".npy": read_array,
    ".npz": read_arrays,
}


def read(path: Path) -> dict[str, pd.DataFrame]:
    """Read the parts of a table, or its one part `all`; ValueError for a file of no known kind.

    The last file is kept: nobody may change what is returned.
    """
    state = path.stat()
    return _read(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1)
def _read(path: Path, size: int, changed: int) -> dict[str, pd.DataFrame]:
    name = path.name.lower()
    suffix = max((end for end in READERS if name.endswith(end)), key=len, default="")
    if not suffix:
        raise ValueError(f"write it as one of {', '.join(READERS)}")
    return READERS[suffix](path)


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
