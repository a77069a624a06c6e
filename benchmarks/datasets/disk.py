"""Files of data sets that do not come with the package: where they lie, and reading them with care.

A module whose data sets read such files defines `files(name, root=None) -> tuple[Path, ...]`; their
content is then part of the fingerprint of what is measured on them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

VARIABLE = "FLOWGAUGE_DATA"


class Absent(FileNotFoundError, ValueError):
    """A data set whose files are not there; the message says where they were looked for."""


def data_root(given: Path | None = None) -> Path:
    """The folder of data files: the one given, or that of FLOWGAUGE_DATA, or the user's cache.

    ValueError where FLOWGAUGE_DATA names what is no folder.
    """
    if given is not None:
        return given
    if told := os.environ.get(VARIABLE):
        if not Path(told).is_dir():
            raise ValueError(f"{VARIABLE} is {told!r}, which is no folder")
        return Path(told)
    import pooch  # imported here because it is slow, and only this needs it

    return Path(pooch.os_cache("flowgauge"))


def found(root: Path, choices: Iterable[tuple[str, ...]]) -> tuple[Path, ...] | None:
    """The files of the first choice that is there as a whole, under ``root`` or ``root/data``."""
    for names in choices:
        for folder in (root, root / "data"):
            paths = tuple(folder / name for name in names)
            if all(path.is_file() for path in paths):
                return paths
    return None


def read_npy(path: Path) -> np.ndarray:
    """A two-dimensional array of numbers; ValueError, saying what was promised, for any other file.

    Objects, which would be unpickled, are refused.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0}
            header = read.get(version, np.lib.format.read_array_header_2_0)
            shape, _, dtype = header(file)
            start = file.tell()
    except (ValueError, OSError) as error:
        raise ValueError(f"{str(path)!r} is not a .npy file: {error}") from error
    if dtype.kind not in "fiub" or len(shape) != 2:
        raise ValueError(
            f"{str(path)!r} must hold a table of numbers, (rows, columns), and holds {dtype} of "
            f"shape {shape}"
        )
    rows, columns = shape
    width = columns * dtype.itemsize
    held = path.stat().st_size - start
    if held < rows * width:
        raise ValueError(
            f"{str(path)!r} is cut off: its header promises {rows:,} rows of {columns} {dtype} "
            f"({rows * width:,} bytes), and it holds {held // max(width, 1):,} whole rows "
            f"({held:,} bytes); fetch it again"
        )
    array: np.ndarray = np.load(path, allow_pickle=False)
    return array


def sha256(path: Path) -> str:
    """Of a file's content, 64 digits; computed once as long as its size and time stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
