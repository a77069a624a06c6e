"""A results folder: loose records (one JSON a case, its arrays beside it), packed ones, the frame.

While a run is going a case is one JSON, written atomically after its arrays. At rest records lie in
parts (`benchmarks.core.parts`). A loose record is newer than a packed one, a later part than an
earlier. Reading never changes a folder.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core import parts
from benchmarks.core.formats import brief
from benchmarks.core.parts import FolderError
from benchmarks.core.record import Newer, Record, parsed
from benchmarks.core.unpacking import BROKEN, array, zipped

RECORDS = "records"  # the subfolder of loose records


def is_folder(path: Path) -> bool:
    """Whether a path is a results folder: it has loose records, or packed ones."""
    return (path / RECORDS).is_dir() or bool(parts.tables(path))


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


def write(folder: Path, record: Record, arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write a record into a results folder, atomically: the arrays first, the JSON last."""
    records = folder / RECORDS
    records.mkdir(parents=True, exist_ok=True)
    if arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        parts.replace(records / f"{record.key}.npz", buffer.getvalue())
        record.arrays = {name: parts.content_hash(array) for name, array in arrays.items()}
    parts.replace(records / f"{record.key}.json", record.json_bytes())


def read(folder: Path) -> dict[str, Record]:
    """All records of a results folder by key, the newest of each.

    A loose record that cannot be read, or is of a newer schema, is left where it is and named in a
    warning: `corrupt` lists the files. FolderError for a part that cannot be read.
    """
    records = parts.records(folder)
    for path in loose(folder):
        try:
            records[path.stem] = _loose(path)
        except ValueError as error:
            warnings.warn(f"record {path.name} is left out: {error}", stacklevel=2)
    return records


def read_one(folder: Path, key: str) -> Record:
    """The record of a key; KeyError where there is none, ValueError for one that is corrupt."""
    path = folder / RECORDS / f"{key}.json"
    return _loose(path) if path.exists() else parts.records(folder)[key]


def loose(folder: Path) -> list[Path]:
    """The files of loose records, sorted."""
    return sorted((folder / RECORDS).glob("*.json"))


def corrupt(folder: Path, *, unread: bool = True) -> dict[Path, str]:
    """The files of loose records that cannot be used, or ``unread``, with the reason."""
    reasons = {}
    for path in loose(folder):
        try:
            _archive(path.with_suffix(".npz"), _loose(path).arrays)
        except (Newer, MemoryError):
            continue
        except BROKEN as error:
            if unread or not isinstance(error.__cause__ or error, OSError):
                reasons[path] = brief(error)
    return reasons


def newer(folder: Path) -> dict[str, str]:
    """Keys of the loose records of a newer schema, with the reason: they must not be replaced."""
    reasons = {}
    for path in loose(folder):
        try:
            _loose(path)
        except Newer as error:
            reasons[path.stem] = str(error)
        except ValueError:
            continue
    return reasons


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


def arrays(row: Any, *names: str) -> dict[str, np.ndarray]:
    """Arrays of a row of the frame, those of ``names`` that it has, or all without names.

    Empty without any. A row that was made up holds them itself.
    """
    held = row["arrays"] if isinstance(row["arrays"], Mapping) else None
    if held is None and not _has(row):
        return {}
    known = row["array_hashes"] if held is None else held
    wanted = {name: value for name, value in known.items() if not names or name in names}
    if held is not None:
        return wanted
    with parts.reading(path := Path(row["arrays"])):
        return _archive(path, wanted)


def arrays_of(folder: Path, record: Record) -> dict[str, np.ndarray]:
    """Arrays of a record that was read from a folder."""
    return arrays({"arrays": place(folder, record), "array_hashes": record.arrays})


def array_names(row: Any) -> set[str]:
    """The names of the arrays of a row of the frame."""
    held = row["arrays"]
    return set(held if isinstance(held, Mapping) else row["array_hashes"] if _has(row) else ())


def _has(row: Any) -> bool:
    return isinstance(row["arrays"], str)


def place(folder: Path, record: Record) -> str | None:
    """The file that holds the arrays of a record; None where it has none."""
    if not record.arrays:
        return None
    path = folder / RECORDS / f"{record.key}.npz"
    return str(path if path.exists() and path.with_suffix(".json").exists() else folder)


def _archive(path: Path, hashes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Arrays of a record from its npz, or of a folder's parts; ValueError where they are others."""
    if not hashes or path.is_dir():
        return parts.arrays(path, hashes) if hashes else {}
    with zipped(path) as archive:
        loaded = {name: array(archive, name) for name in hashes}
    for name, value in loaded.items():
        if parts.content_hash(value) != hashes[name]:
            raise ValueError(f"its array {name!r} is not the one that was measured then")
    return loaded


def _loose(path: Path) -> Record:
    try:
        record = parsed(path.read_bytes(), path.stem)
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from error
    if record.arrays and not path.with_suffix(".npz").exists():
        raise ValueError("its arrays are missing")
    return record


def pack(folder: Path, *, join: bool = False, without: Collection[str] = ()) -> Path | None:
    """Move loose records into a new part, or with ``join`` all records into one; the new table.

    None where there is nothing to move. Arrays of names in ``without`` are dropped; ValueError for
    a name that no record has. The caller holds the folder. Loose files and joined parts go once the
    new part is whole; corrupt and newer records stay. FolderError for a part that is not readable.
    """
    before = parts.tables(folder)
    untouched = {path.stem for path in corrupt(folder)} | newer(folder).keys()
    fresh = {path.stem: path for path in loose(folder) if path.stem not in untouched}
    if not fresh and not (join and len(before) > 1):
        return None
    if join and (tables := parts.newer(folder)):
        what = f"{str(tables[0])!r} has records of a newer schema, which joining would drop"
        raise FolderError(f"{what}: update flowgauge, or pack without --all")
    packed = parts.records(folder) if join else {}
    items = [(record, folder) for key, record in packed.items() if key not in fresh]
    items += [(_loose(path), path.with_suffix(".npz")) for path in fresh.values()]
    if unknown := {*without} - {name for record, _ in items for name in record.arrays}:
        raise ValueError(f"no record to pack has an array {sorted(unknown)[0]!r}")
    kept = ((record.without(without), path) for record, path in items)
    pairs = ((record, _archive(path, record.arrays)) for record, path in kept)
    table = parts.write(folder, pairs, () if join else parts.hashes(folder))
    gone = [(path, path.with_suffix(".npz")) for path in fresh.values()]
    for path, beside in gone + [(old, parts.archive_of(old)) for old in before if join]:
        path.unlink()
        beside.unlink(missing_ok=True)
    with suppress(OSError):  # what is left keeps it
        (folder / RECORDS).rmdir()
    return table
