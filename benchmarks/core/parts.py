"""Records at rest: parts of a results folder, ``records-0001.parquet`` and ``arrays-0001.zip``.

A part is never rewritten. The table has a row a record: a few columns to look at, and the record
as JSON. The archive has each array once, by its content hash, compressed by LZMA.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.core.record import Record, parsed

NAME = re.compile(r"records-(\d{4})\.parquet")
SEEN = ("study", "flow", "dim", "dataset", "batch", "updates")  # columns of a part, for a reader


def content_hash(array: np.ndarray) -> str:
    """Sixteen digits of an array's type, shape and values."""
    plain = np.ascontiguousarray(array)
    head = f"{plain.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + plain.tobytes()).hexdigest()[:16]


def tables(folder: Path) -> list[Path]:
    """The tables of a folder's parts, the earliest first."""
    return sorted(path for path in folder.glob("records-*.parquet") if NAME.fullmatch(path.name))


def archive_of(table: Path) -> Path:
    """The archive that belongs to a part's table."""
    number = NAME.fullmatch(table.name)
    assert number is not None  # `tables` lists no other
    return table.with_name(f"arrays-{number[1]}.zip")


def records(folder: Path) -> dict[str, Record]:
    """The packed records of a folder by key, of each the one in the latest part."""
    newest: dict[str, Record] = {}
    for table in tables(folder):
        newest |= {record.key: record for record in _records(table, table.stat().st_mtime_ns)}
    return newest


def history(folder: Path) -> list[Record]:
    """All packed records of a folder in the order in which they were packed, older ones too."""
    return [r for table in tables(folder) for r in _records(table, table.stat().st_mtime_ns)]


@lru_cache(maxsize=32)
def _records(table: Path, changed: int) -> tuple[Record, ...]:
    """The records of one part, read once while the file stays as it is."""
    rows = pq.read_table(table, columns=["key", "record"]).to_pylist()
    return tuple(parsed(row["record"], row["key"]) for row in rows)


def arrays(folder: Path, hashes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Packed arrays by name from their hashes; KeyError for one that no archive has."""
    left, found = dict(hashes), {}
    for table in reversed(tables(folder)):
        if not (path := archive_of(table)).exists():
            continue
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            for name, value in list(left.items()):
                if (member := f"{value}.npy") in members:
                    found[name] = np.load(io.BytesIO(archive.read(member)), allow_pickle=False)
                    del left[name]
    if left:
        raise KeyError(f"{str(folder)!r} lacks the arrays {', '.join(left)}")
    return {name: found[name] for name in hashes}


def write(
    folder: Path,
    items: Iterable[tuple[Record, Mapping[str, np.ndarray]]],
    known: Iterable[str] = (),
) -> Path:
    """Write records with their arrays as the next part; the path of its table.

    Arrays whose hashes are ``known`` stand in an earlier part.
    """
    number = max((int(NAME.fullmatch(path.name)[1]) for path in tables(folder)), default=0) + 1  # type: ignore[index]  # each matches
    table = folder / f"records-{number:04d}.parquet"
    there, rows = set(known), []
    with zipfile.ZipFile(_draft(archive_of(table)), "w", zipfile.ZIP_LZMA) as archive:
        for record, named in items:
            for name, array in named.items():
                if (value := record.arrays[name]) not in there:
                    buffer = io.BytesIO()
                    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
                    entry = zipfile.ZipInfo(f"{value}.npy", (1980, 1, 1, 0, 0, 0))
                    archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_LZMA)
                    there.add(value)
            rows.append(_row(record))
        empty = not archive.namelist()
    frame = pa.Table.from_pylist(rows)
    pq.write_table(frame, _draft(table), compression="zstd", compression_level=19)
    if empty:
        _draft(archive_of(table)).unlink()
    else:
        _draft(archive_of(table)).replace(archive_of(table))
    _draft(table).replace(table)  # last: without it the part does not exist
    return table


def hashes(folder: Path) -> set[str]:
    """The content hashes of all packed arrays of a folder."""
    names: set[str] = set()
    for table in tables(folder):
        if (path := archive_of(table)).exists():
            with zipfile.ZipFile(path) as archive:
                names |= {name.removesuffix(".npy") for name in archive.namelist()}
    return names


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.draft")


def _row(record: Record) -> dict[str, object]:
    seen = {name: getattr(record.case, name) for name in SEEN}
    text = record.model_dump_json(by_alias=True)
    return {
        "key": record.key,
        **seen,
        "seed": record.case.seeds.init,
        "status": record.status,
        "started": record.started,
        "record": text,
    }
