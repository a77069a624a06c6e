"""Files of data sets that do not come with the package: their folder, and reading them safely.

A module whose data sets read such files defines `files(name, root=None) -> tuple[Path, ...]`, so
that records depend on their content. If they can be downloaded it also defines
`sources(name, original=False) -> tuple[Source, ...]` (`benchmarks.datasets.download`), which
`flowgauge data fetch` uses.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.core.formats import brief
from benchmarks.core.unpacking import BROKEN, read_array

VARIABLE = "FLOWGAUGE_DATA"


class Absent(FileNotFoundError, ValueError):
    """A data set whose files are not there; the message names the places."""


def data_root(given: Path | None = None) -> Path:
    """Return the folder of data files: the one given, or FLOWGAUGE_DATA, or the user's cache.

    Raises ValueError if FLOWGAUGE_DATA is not a folder.
    """
    if given is not None:
        return given
    if folder := os.environ.get(VARIABLE):
        if not Path(folder).is_dir():
            raise ValueError(f"{VARIABLE} is {folder!r}, which is no folder")
        return Path(folder)
    import pooch  # imported here because it is slow, and only this needs it

    return Path(pooch.os_cache("flowgauge"))


def first_complete(root: Path, choices: Iterable[tuple[str, ...]]) -> tuple[Path, ...] | None:
    """Return the files of the first choice that is complete under ``root`` or ``root/data``."""
    for names in choices:
        for folder in (root, root / "data"):
            paths = tuple(folder / name for name in names)
            if all(path.is_file() for path in paths):
                return paths
    return None


def read_npy(path: Path) -> np.ndarray:
    """Read a two-dimensional array of numbers; ValueError, with what is wrong, for another file."""
    with path.open("rb") as file:
        try:
            array = read_array(file, path.stat().st_size)
        except BROKEN as error:
            raise ValueError(f"{str(path)!r} cannot be read: {brief(error)}") from error
    if array.dtype.kind not in "fiub" or array.ndim != 2:
        raise ValueError(
            f"{str(path)!r} must hold a table of numbers, (rows, columns), and holds {array.dtype} "
            f"of shape {array.shape}"
        )
    return array


def sha256(path: Path) -> str:
    """Return the sha256 of a file, 64 digits; cached while its size and time stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
