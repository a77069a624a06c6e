"""A results folder: loose records while a run is going, parts at rest.

A loose record is one JSON a case, ``records/KEY.json``, written atomically after its arrays, in an
npz beside it. A part is never rewritten: ``records-0001.parquet`` has a row a record (a few columns
to look at, and the record as JSON), ``arrays-0001.zip`` each array once, by its content hash,
compressed by LZMA. A loose record is newer than a packed one, a later part than an earlier. Reading
never changes a folder.
"""

import fnmatch
import hashlib
import io
import lzma
import os
import re
import socket
import threading
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.core.formats import brief
from benchmarks.core.record import Altered, Newer, Record, parsed

RECORDS = "records"  # the subfolder of loose records
PART = re.compile(r"(?:records|arrays)-(\d{4})\.(?:parquet|zip)")
TEMPORARY = re.compile(r"\..+\..+-(\d+)-\d{9,}")  # of `written`: a process and its thread
FREE, RATIO = 1 << 26, 100  # bytes that a file may unpack to: free ones, and for each of its own
BROKEN = (  # what is raised for a file that is damaged, of an unknown compression, or too large
    *(OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
SEEN = ("study", "flow", "dim", "dataset", "batch", "updates")  # columns of a part, for a reader
SMALL = 4096  # bytes of an array that is kept once it was read


class FolderError(ValueError):
    """A results folder that cannot be used; the message says why."""


def is_folder(path: Path) -> bool:
    """Whether a path is a results folder: it has loose records, or packed ones."""
    return (path / RECORDS).is_dir() or bool(tables(path))


def existing(folder: Path) -> Path:
    """The folder itself; ValueError where there is none and where it holds no records."""
    if not folder.exists():
        raise ValueError(f"there is no folder {str(folder)!r}")
    check_name(folder)
    if not is_folder(folder):
        raise ValueError(
            f"{str(folder)!r} is not a results folder: it has neither records/ nor packed records"
        )
    return folder


def check_name(folder: Path) -> None:
    """FolderError for a folder whose name is not in UTF-8."""
    try:
        str(folder.resolve()).encode()
    except UnicodeEncodeError as error:
        raise FolderError(f"{str(folder)!r} has no name in UTF-8: rename it") from error


def read(folder: Path, *, whole: bool = False) -> dict[str, Record]:
    """All records of a results folder by key, the newest of each.

    A loose record that cannot be read, is of a newer schema or, if they have to be ``whole``, has
    other arrays than those that were measured, is left where it is and named in a warning:
    `corrupt` lists the files. FolderError for a part that cannot be read, and for a record
    whose numbers are not those that were measured.
    """
    fresh = {record.key: record for _, record in _readable(folder, whole)}  # first: packing may
    return {record.key: record for record in history(folder)} | fresh  # move them meanwhile


def _readable(folder: Path, whole: bool) -> Iterator[tuple[Path, Record]]:
    for path, record in _each_loose(folder, whole):
        if isinstance(record, Record):
            yield path, record
        else:
            warnings.warn(f"record {path.name} is left out: {brief(record)}", stacklevel=3)


def read_one(folder: Path, key: str) -> Record:
    """The record of a key; KeyError where there is none, ValueError for one that is corrupt."""
    path = folder / RECORDS / f"{key}.json"
    return _loose(path) if path.exists() else {r.key: r for r in history(folder)}[key]


def history(folder: Path) -> list[Record]:
    """All packed records of a folder in the order in which they were packed, older ones too.

    Those of a newer schema are left out with a warning, and a part that is gone is named in one.
    FolderError for a part that is not whole, and for arrays that are not those of its records.
    """
    result: list[Record] = []
    for table in tables(folder):
        records, reasons = _part(table, table.stat().st_mtime_ns)
        result += records
        for text in sorted({*reasons.values()}):
            warnings.warn(f"a record of {str(table)!r} is left out: {text}", stacklevel=2)
    newest, there = {record.key: record for record in result}.values(), archives(folder).keys()
    if lost := next((r for r in newest if not there >= {*r.arrays.values()}), None):
        raise FolderError(
            f"{str(folder)!r} lacks the arrays {', '.join(lost.arrays)} of record {lost.key}: "
            "restore arrays-*.zip from a copy, or remove records-*.parquet of the same number too"
        )
    for path in gone(folder):
        warnings.warn(f"{str(path)!r} is gone, and what it held: restore it", stacklevel=2)
    return result


def gone(folder: Path) -> list[Path]:
    """The tables of parts that a folder once had, by the numbers of its other files."""
    numbers = [int(path.stem[-4:]) for path in tables(folder)]
    archives = (int(p.stem[-4:]) for p in _listed(folder, "arrays-*.zip") if PART.fullmatch(p.name))
    last = max(numbers, default=0)
    lost = (n for n in range(min((last, *numbers, *archives)), last) if n not in numbers)
    return [folder / f"records-{number:04d}.parquet" for number in lost]


def loose(folder: Path) -> list[Path]:
    return _listed(folder / RECORDS, "*.json")


def tables(folder: Path) -> list[Path]:
    """The tables of a folder's parts, the earliest first."""
    return [path for path in _listed(folder, "records-*.parquet") if PART.fullmatch(path.name)]


def _listed(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder, sorted; OSError if it cannot be listed, where glob finds none."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in sorted(fnmatch.filter(names, pattern))]


def corrupt(folder: Path, *, unread: bool = True) -> dict[Path, str]:
    """The files of loose records that cannot be used, or ``unread``, with the reason.

    FolderError for a record whose numbers are not those that were measured.
    """
    return {
        path: brief(error)
        for path, error in _each_loose(folder, whole=True)
        if not isinstance(error, Record | Newer | MemoryError)
        if unread or not isinstance(error.__cause__ or error, OSError)
    }


def newer(folder: Path) -> dict[str, str]:
    """Keys of the records of a newer schema, with the reason: they must not be replaced."""
    fresh = {path.stem: str(e) for path, e in _each_loose(folder) if isinstance(e, Newer)}
    parts = (_part(table, table.stat().st_mtime_ns)[1] for table in tables(folder))
    return {key: reason for part in parts for key, reason in part.items()} | fresh


def set_aside(folder: Path) -> dict[Path, str]:
    """Move corrupt records to ``corrupt/`` of the folder, held by the caller; what was moved."""
    reasons = corrupt(folder, unread=False)  # what the disk refuses may be whole
    for path in reasons:
        target = folder / "corrupt"
        target.mkdir(exist_ok=True)
        for part in (path, path.with_suffix(".npz")):
            if part.exists():
                os.replace(part, target / part.name)
    return reasons


def _each_loose(folder: Path, whole: bool = False) -> Iterator[tuple[Path, Record | Exception]]:
    """The files of loose records, each with its record, or what is wrong with it."""
    for path in loose(folder):
        try:
            record = _loose(path)
            if whole:
                _archive(path.with_suffix(".npz"), record.arrays)
            yield path, record
        except FolderError:
            raise
        except (*BROKEN, MemoryError) as error:
            yield path, error


def _loose(path: Path) -> Record:
    try:
        record = parsed(path.read_bytes(), path.stem)
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from error
    except Altered as error:
        raise _altered(path, error) from error
    if record.arrays and not path.with_suffix(".npz").exists():
        raise ValueError("its arrays are missing")
    return record


@lru_cache(maxsize=32)
def _part(table: Path, changed: int) -> tuple[tuple[Record, ...], dict[str, str]]:
    """The records of a part, read once while the file stays as it is; reasons for newer ones."""
    records, reasons = [], dict[str, str]()
    names = ["key", "record"]
    options = {"read_dictionary": names, "page_checksum_verification": True}
    with reading(table), pq.ParquetFile(table, **options) as file:
        size, missing = 0, file.metadata.num_rows
        for batch in file.iter_batches(columns=names):
            missing -= len(batch)
            for key, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                check_size(table, size := size + len(text))
                try:
                    records.append(parsed(text, key))
                except Newer as error:
                    reasons[key] = str(error)
                except Altered as error:
                    raise _altered(table, error, f"record {key}: ") from error
        if missing:  # what says how many there are has no checksum
            raise ValueError(f"{missing} of its {file.metadata.num_rows} records are missing")
    return tuple(records), reasons


def check_size(path: Path, size: int, end: str = "its size") -> None:
    """ValueError if a file would unpack to more bytes than any table of its size."""
    if size > (most := FREE + RATIO * path.stat().st_size):
        raise ValueError(f"it unpacks to {size:,} bytes, and {most:,} are the most for {end}")


def _altered(path: Path, error: Altered, record: str = "") -> FolderError:
    return FolderError(f"{str(path)!r}: {record}{error}: restore it from a copy, or remove it")


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


def arrays(row: Any, *names: str) -> dict[str, np.ndarray]:
    """Arrays of a row of the frame, those of ``names`` that it has, or all without names.

    Empty without any. A row that was made up holds them itself.
    """
    place, hashes = row["arrays"], hashes_of(row)
    members = {name: value for name, value in hashes.items() if not names or name in names}
    if not isinstance(place, str):
        return members
    with reading(path := Path(place)):
        return _archive(path, members)


def arrays_of(folder: Path, record: Record) -> dict[str, np.ndarray]:
    """Arrays of a record that was read from a folder."""
    return arrays({"arrays": place(folder, record), "array_hashes": record.arrays})


def hashes_of(row: Any) -> Mapping[str, Any]:
    """The hashes of a row's arrays by name; of a row that was made up the arrays."""
    place = row["arrays"]
    hashes = row["array_hashes"] if isinstance(place, str) else place
    return hashes if isinstance(hashes, Mapping) else {}


def place(folder: Path, record: Record) -> str | None:
    """The file that holds the arrays of a record; None where it has none."""
    if not record.arrays:
        return None
    path = folder / RECORDS / f"{record.key}.npz"
    return str(path if path.exists() and path.with_suffix(".json").exists() else folder)


def _archive(path: Path, hashes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Arrays of a record by name from its npz, or from a folder's parts.

    ValueError where they are others, FolderError for one that no part has.
    """
    if not hashes:
        return {}
    if not path.is_dir():
        with _zipped(path) as archive:
            return {name: _array(archive, name, value) for name, value in hashes.items()}
    places = _archives(path, tuple(os.listdir(path)))
    if lost := [name for name, value in hashes.items() if value not in places]:
        raise FolderError(f"{str(path)!r} lacks the arrays {', '.join(lost)} of a record")
    loaded: dict[str, np.ndarray] = {}
    for name, value in hashes.items():
        with reading(part := places[value]):
            state = part.stat()
            archive, cache = _opened(part, state.st_mtime_ns, state.st_size)
            array = _array(archive, value, value) if value not in cache else cache[value]
            if array.nbytes <= SMALL:
                cache[value] = array
            loaded[name] = array.copy()
    return loaded


@lru_cache(maxsize=64)
def _archives(folder: Path, names: tuple[str, ...]) -> Mapping[str, Path]:
    """The `archives` of a folder, read once while its files have these names."""
    return archives(folder)


@lru_cache(maxsize=64)
def _opened(path: Path, modified: int, size: int) -> tuple[zipfile.ZipFile, dict[str, np.ndarray]]:
    """An archive, and those small arrays of it that were read: claims ask often."""
    return _zipped(path), {}


@lru_cache(maxsize=1024)
def _members(path: Path, modified: int, size: int) -> frozenset[str]:
    """The hashes of an archive's arrays, each compared with its content."""
    with _zipped(path) as archive:
        names = frozenset(name.removesuffix(".npy") for name in archive.namelist())
        for name in names:
            _array(archive, name, name)
    return names


def _zipped(path: Path) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(path)
    check_size(path, sum(member.file_size for member in archive.infolist()))
    return archive


def _array(archive: zipfile.ZipFile, name: str, value: str) -> np.ndarray:
    """An array of an archive; ValueError where its hash is not ``value``."""
    with archive.open(f"{name}.npy") as file:
        values: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # at its end is the sum
            raise ValueError(f"its array {name!r} has more than its header says")
    if content_hash(values) != value:
        raise ValueError(f"its array {name!r} is not the one that was measured then")
    return values


def content_hash(array: np.ndarray) -> str:
    """Sixteen digits of an array's type, shape and values."""
    plain = np.ascontiguousarray(array)
    head = f"{plain.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + plain.tobytes()).hexdigest()[:16]


def archive_of(table: Path) -> Path:
    return table.with_name(f"{table.stem.replace('records', 'arrays')}.zip")


def write(folder: Path, record: Record, arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write a record into a results folder, atomically: the arrays first, the JSON last."""
    records = folder / RECORDS
    records.mkdir(parents=True, exist_ok=True)
    if arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        replace(records / f"{record.key}.npz", buffer.getvalue())
        record.arrays = {name: content_hash(array) for name, array in arrays.items()}
    record.digest = record.sealed().digest
    text = record.model_dump_json(by_alias=True, indent=1)
    replace(records / f"{record.key}.json", text.encode())


def pack(folder: Path, *, join: bool = False, without: Collection[str] = ()) -> Path | None:
    """Move loose records into a new part, or with ``join`` all records into one; the new table.

    None where there is nothing to move. Arrays of names in ``without`` are dropped; ValueError for
    a name that no record has. The caller holds the folder. Loose files and joined parts go once the
    new part is whole; corrupt and newer records stay. FolderError for a part that is not readable.
    """
    sweep(folder, folder / RECORDS)
    before, packed = tables(folder), {record.key: record for record in history(folder)}
    fresh = dict(_readable(folder, whole=True))
    if not fresh and not (join and (without or len(before) > 1)):
        return None
    for part in before if join else ():
        if _part(part, part.stat().st_mtime_ns)[1]:
            what = f"{str(part)!r} has records of a newer schema, which joining would drop"
            raise FolderError(f"{what}: update flowgauge, or pack without --all")
    items = [(record, path.with_suffix(".npz")) for path, record in fresh.items()]
    if join:
        replaced = {record.key for record in fresh.values()}
        items += [(record, folder) for key, record in packed.items() if key not in replaced]
    if unknown := {*without} - {name for record, _ in items for name in record.arrays}:
        raise ValueError(f"no record to pack has an array {sorted(unknown)[0]!r}")
    entries = []
    for record, path in items:
        rest = {name: value for name, value in record.arrays.items() if name not in without}
        entries.append((record.model_copy(update={"arrays": rest}).sealed(), path))
    if not join:  # those of a pack that was killed before it removed them are there already
        entries = [(record, path) for record, path in entries if record != packed.get(record.key)]
    table = before[-1] if before else None
    if entries:
        pairs = ((record, _archive(path, record.arrays)) for record, path in entries)
        table = write_part(folder, pairs, () if join else archives(folder))
    for path in fresh:
        path.unlink()
        path.with_suffix(".npz").unlink(missing_ok=True)
    for old in before if join else ():
        archive_of(old).unlink(missing_ok=True)  # first: a table without it has newer records
        old.unlink()
    with suppress(OSError):  # what is left keeps it
        (folder / RECORDS).rmdir()
    return table


def archives(folder: Path) -> dict[str, Path]:
    """The archive of each packed array of a folder by content hash, the latest of several."""
    places: dict[str, Path] = {}
    for table in tables(folder):
        if (path := archive_of(table)).exists():
            with reading(path):
                state = path.stat()
                places |= dict.fromkeys(_members(path, state.st_mtime_ns, state.st_size), path)
    return places


def write_part(
    folder: Path,
    items: Iterable[tuple[Record, Mapping[str, np.ndarray]]],
    known: Iterable[str] = (),
) -> Path:
    """Write records and arrays, but those of ``known`` hashes, as the next part; its table."""
    number = 1 + max((int(path.stem.partition("-")[2]) for path in tables(folder)), default=0)
    table = folder / f"records-{number:04d}.parquet"
    there, rows, path = set(known), [], archive_of(table)
    with written(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_LZMA) as archive:
        for record, contents in items:
            for name, array in contents.items():
                if (value := record.arrays[name]) not in there:
                    buffer = io.BytesIO()
                    np.save(buffer, np.asarray(array, order="C"), allow_pickle=False)
                    entry = zipfile.ZipInfo(f"{value}.npy", (1980, 1, 1, 0, 0, 0))
                    archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_LZMA)
                    there.add(value)
            row = {"key": record.key, **{name: getattr(record.case, name) for name in SEEN}}
            row |= {"seed": record.case.seeds.init, "status": record.status}
            row |= {"started": record.started, "record": record.model_dump_json(by_alias=True)}
            rows.append(row)
        empty = not archive.namelist()
    if empty:
        path.unlink()
    frame = pa.Table.from_pylist(rows)
    options = {"compression_level": 19, "write_page_checksum": True}
    with written(table) as draft:  # last: without it the part does not exist
        pq.write_table(frame, draft, compression="zstd", **options)
    _sync(folder)  # before anything that it replaces goes
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
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):  # there is none, or nothing can be removed
            temporary.unlink()


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, which holds either all of it or what it held before."""
    with written(path) as temporary:
        temporary.write_bytes(content)


def sweep(*folders: Path) -> None:
    """Remove temporary files of dead writers, and arrays without their loose record."""
    for folder in folders:
        for path in (*folder.glob(".*"), *folder.glob("*.npz")):
            orphan = path.suffix == ".npz" and folder.name == RECORDS
            orphan = orphan and not path.with_suffix(".json").exists()
            left = TEMPORARY.fullmatch(path.name)
            if orphan or (left and not psutil.pid_exists(int(left[1]))):
                path.unlink(missing_ok=True)
