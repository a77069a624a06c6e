"""User files as data sets: the path is the name wherever a data set is named.

`my.csv`, `.parquet`, `.npy` or `.npz`: a table of numbers, one row per observation. An .npz may
hold `train`, `val` and `test`; anything else is split at random, 80 / 10 / 10. The suffix in
`my.csv:dequantise` adds uniform noise in [0, 1) to columns of whole numbers. Columns are
standardised with the training mean and standard deviation. Records depend on the file's content.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import torch

from benchmarks.core.formats import brief
from benchmarks.core.unpacking import MALFORMED
from benchmarks.datasets import Dataset, Loader, names, register, stream
from benchmarks.datasets.disk import Absent, sha256
from benchmarks.datasets.tables import READERS, Inspection, examine
from benchmarks.datasets.tabular import distinct_rows, scaling, shuffled_split, standardised

DEQUANTISE = ":dequantise"


def is_file(name: str) -> bool:
    """Return whether a data set's name is a file's: whether it has a suffix, of any kind."""
    return bool(Path(name.removesuffix(DEQUANTISE)).suffix)


def admit(name: str) -> None:
    """Register a file as a data set under its name; do nothing if the name is not a file's."""
    if is_file(name) and name not in names():
        register(name)(_loader(name))


def _loader(name: str) -> Loader:
    def load(root: Path | None, seed: int) -> Dataset:
        return load_file(name, seed)

    return load


def files(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """Return the file of a data set; raise Absent if it does not exist."""
    path = Path(name.removesuffix(DEQUANTISE))
    if not path.is_file():
        fault = "is not a file" if path.exists() else "does not exist"
        raise Absent(f"data file {str(path)!r} {fault}")
    return (path,)


def inspect(name: str) -> Inspection:
    """Inspect a file's table; ValueError if it cannot be read."""
    return examine(_tables(name), name.endswith(DEQUANTISE))


def load_file(name: str | Path, seed: int = 0, dequantise: bool = False) -> Dataset:
    """Load the data set in a file, split and dequantised from ``seed``.

    Raises ValueError with every fault: text, missing or infinite values, constant or linearly
    dependent columns, too few rows. Remarks on doubtful tables are part of ``about``.
    """
    name = str(name) + DEQUANTISE * (dequantise and not str(name).endswith(DEQUANTISE))
    tables = _tables(name)
    inspection = examine(tables, name.endswith(DEQUANTISE))
    if inspection.faults:
        raise ValueError(f"data file {name!r}: {'; '.join(inspection.faults)}")
    parts = {part: torch.tensor(table.to_numpy("float64")) for part, table in tables.items()}
    if name.endswith(DEQUANTISE):
        generator = stream(seed, "own/noise")
        for x in parts.values():
            shape = len(x), len(inspection.integers)
            x[:, inspection.integers] += torch.rand(shape, generator=generator, dtype=x.dtype)
    elif "all" in tables:  # or equal rows could lie in two parts
        parts["all"], _ = distinct_rows(tables["all"])
    if "all" in parts:
        parts = shuffled_split(parts["all"], stream(seed, "own/split"))
    if not parts["train"].std(dim=0).all():
        raise ValueError(f"data file {name!r}: a column is constant in its training part")
    raw, parts = scaling(parts), standardised(parts)
    sizes = " / ".join(f"{len(part):,}" for part in parts.values())
    split = "as the file has them" if len(tables) > 1 else "a random 80/10/10 split"
    remarks = " ".join(f"{_sentence(remark)}." for remark in inspection.remarks)
    return Dataset(
        name,
        parts["train"].shape[1],
        parts["train"],
        parts["val"],
        parts["test"],
        units="standardised columns",
        scaling=raw,
        about=f"{name} (sha256 {sha256(files(name)[0])[:12]}): {sizes} rows, {split}, standardised "
        f"with the training mean and sd. {remarks}".strip(),
        columns=_columns(next(iter(tables.values()))),
        split="published" if len(tables) > 1 else "random",
    )


def _columns(table: pd.DataFrame) -> tuple[str, ...] | None:
    """Return the names of a table's columns; None if they are only numbered."""
    columns = tuple(map(str, table.columns))
    return None if columns == tuple(map(str, range(len(columns)))) else columns


def _tables(name: str) -> dict[str, pd.DataFrame]:
    """Read the parts of a file, or its one part `all`; ValueError if that fails."""
    (path,) = files(name)
    if path.suffix.lower() not in READERS:
        kinds = ", ".join(READERS)
        raise ValueError(f"data file {str(path)!r} cannot be read: write it as one of {kinds}")
    try:
        return READERS[path.suffix.lower()](path)
    except (*MALFORMED, csv.Error) as error:
        reason = brief(error)
        where = "" if str(path) in reason else f"data file {str(path)!r} cannot be read: "
        raise ValueError(f"{where}{reason}") from error


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
