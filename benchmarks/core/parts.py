"""Records at rest: parts of a results folder, ``records-0001.parquet`` and ``arrays-0001.zip``.

A part is never rewritten. The table has a row a record: a few columns to look at, and the record
as JSON. The archive has each array once, by its content hash, compressed by LZMA.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
import threading
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.core.formats import brief
from benchmarks.core.record import Newer, Record, parsed
from benchmarks.core.unpacking import BROKEN, array, check, parquet, zipped

NAME = re.compile(r"records-(\d{4})\.parquet")
TEMPORARY = re.compile(r"\..+-\d+-\d+")  # of `written`
SEEN = ("study", "flow", "dim", "dataset", "batch", "updates")  # columns of a part, for a reader


class FolderError(ValueError):
    """A results folder that cannot be used; the message says why."""


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
    return {record.key: record for record in history(folder)}


def history(folder: Path) -> list[Record]:
    """All packed records of a folder in the order in which they were packed, older ones too.

    Those of a newer schema are left out with a warning. FolderError for a part that is not whole.
    """
    listed: list[Record] = []
    for table in tables(folder):
        known, reasons = _part(table)
        listed += known
        for text in reasons:
            warnings.warn(f"a record of {str(table)!r} is left out: {text}", stacklevel=2)
    return listed


def newer(folder: Path) -> list[Path]:
    """The tables that hold records of a newer schema."""
    return [table for table in tables(folder) if _part(table)[1]]


def _part(table: Path) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    with reading(table):
        return _records(table, table.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _records(table: Path, changed: int) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """The records of one part, read once while the file stays as it is; reasons for newer ones."""
    records, reasons, size = [], set(), 0
    with parquet(table) as file:
        for batch in file.iter_batches(columns=["key", "record"]):
            for key, cell in zip(*batch.columns, strict=True):
                text = str(cell.as_py())
                check(table, size := size + len(text))
                try:
                    records.append(parsed(text, str(key.as_py())))
                except Newer as error:
                    reasons.add(str(error))
    return tuple(records), tuple(sorted(reasons))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise FolderError, naming the file, for one that is not whole."""
    try:
        yield
    except FolderError:
        raise
    except (*BROKEN, MemoryError) as error:
        raise FolderError(
            f"{str(path)!r} cannot be read: {brief(error)}. Restore it from a copy, or remove it "
            "to go on without what it holds"
        ) from error


def arrays(folder: Path, hashes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Packed arrays by name from their hashes; FolderError for one that no archive has."""
    left = dict(hashes)
    loaded: dict[str, np.ndarray] = {}
    for table in reversed(tables(folder)):
        if not (path := archive_of(table)).exists():
            continue
        with reading(path):
            state = path.stat()
            archive, members = _opened(path, state.st_mtime_ns, state.st_size)
            here = [name for name, value in left.items() if f"{value}.npy" in members]
            loaded |= {name: array(archive, left.pop(name)) for name in here}
    if left:
        raise FolderError(f"{str(folder)!r} lacks the arrays {', '.join(left)} of a record")
    return {name: loaded[name] for name in hashes}


@lru_cache(maxsize=64)
def _opened(path: Path, modified: int, size: int) -> tuple[zipfile.ZipFile, frozenset[str]]:
    """An archive and its members, which take longer to read than an array, read once."""
    archive = zipped(path)
    return archive, frozenset(archive.namelist())


def write(
    folder: Path,
    items: Iterable[tuple[Record, Mapping[str, np.ndarray]]],
    known: Iterable[str] = (),
) -> Path:
    """Write records with their arrays as the next part; the path of its table.

    Arrays whose hashes are ``known`` stand in an earlier part.
    """
    number = 1 + max(
        (int(path.stem.removeprefix("records-")) for path in tables(folder)), default=0
    )
    table = folder / f"records-{number:04d}.parquet"
    there, rows, path = set(known), [], archive_of(table)
    with written(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_LZMA) as archive:
        for record, named in items:
            for name, array in named.items():
                if (value := record.arrays[name]) not in there:
                    buffer = io.BytesIO()
                    np.save(buffer, np.asarray(array, order="C"), allow_pickle=False)
                    entry = zipfile.ZipInfo(f"{value}.npy", (1980, 1, 1, 0, 0, 0))
                    archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_LZMA)
                    there.add(value)
            rows.append(_row(record))
        empty = not archive.namelist()
    if empty:
        path.unlink()
    frame = pa.Table.from_pylist(rows)
    with written(table) as draft:  # last: without it the part does not exist
        pq.write_table(frame, draft, compression="zstd", compression_level=19)
    return table


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, which it becomes at the end, or is removed on an error.

    Its name is that of this host, process and thread, so that writers never share one. An OSError
    names ``path``.
    """
    writer = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{writer}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):  # there is none, or nothing can be removed
            temporary.unlink()


def replace(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, which holds either all of it or what it held before."""
    with written(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sweep(*folders: Path) -> None:
    """Remove temporary files that writers have left which were killed, and none of which lives."""
    for path in (path for folder in folders for path in folder.glob(".*")):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def hashes(folder: Path) -> set[str]:
    """The content hashes of all packed arrays of a folder."""
    names: set[str] = set()
    for table in tables(folder):
        if (path := archive_of(table)).exists():
            with reading(path), zipped(path) as archive:
                names |= {name.removesuffix(".npy") for name in archive.namelist()}
    return names


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
