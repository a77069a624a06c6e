"""Compressed files of others: bounded before they take memory or disk, checked to their ends.

A file may unpack to `FREE` bytes and to `RATIO` for each of its own: far more than tables of
numbers reach, far less than a bomb, which has a thousand or more.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FREE, RATIO = 1 << 26, 100
CHUNK = 1 << 20
TEXTS = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
OPENERS: dict[bytes, Callable[[Path], Any]] = {  # by the first bytes of a file
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
# what is raised for a file that is damaged, encrypted, of an unknown compression, or too large
BROKEN = (
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
# and by libraries that trust what a file says of itself
MALFORMED = (*BROKEN, MemoryError, TypeError, AttributeError, IndexError)


def most(path: Path) -> int:
    """The bytes that a file may unpack to."""
    return FREE + RATIO * path.stat().st_size


def check(path: Path, size: int) -> None:
    """ValueError for a file that would unpack to so many bytes, if these are too many."""
    if size > (limit := most(path)):
        raise ValueError(
            f"it unpacks to {size:,} bytes, and {limit:,} are the most for a file of its size: "
            "save it with less compression"
        )


def zipped(path: Path) -> zipfile.ZipFile:
    """Open a zip archive; ValueError where its members take more than the bound."""
    archive = zipfile.ZipFile(path)
    try:
        check(path, sum(member.file_size for member in archive.infolist()))
    except ValueError:
        archive.close()
        raise
    return archive


def array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array of a member of a zip archive; KeyError where there is none of the name."""
    with archive.open(f"{name}.npy") as file:
        values = read_array(file, archive.getinfo(f"{name}.npy").file_size)
        drain(file)  # at its end is the sum
    return values


def read_array(file: IO[bytes], size: int) -> np.ndarray:
    """Read an array in NumPy's format from ``size`` bytes; ValueError where there is none.

    Memory is taken for the bytes that are there, whatever the header says. Objects, which would be
    unpickled, are refused.
    """
    start = file.tell()
    try:
        version = np.lib.format.read_magic(file)
        known = {(1, 0): np.lib.format.read_array_header_1_0}
        shape, _, dtype = known.get(version, np.lib.format.read_array_header_2_0)(file)
    except (*MALFORMED, SyntaxError, TokenError) as error:
        raise ValueError(f"no array in NumPy's format: {error}") from error
    promised, held = math.prod(shape) * dtype.itemsize, size - (file.tell() - start)
    if dtype.hasobject or min(shape, default=0) < 0 or (not promised and max(shape) > CHUNK):
        raise ValueError(f"an array of {dtype} and of shape {shape}: no plain numbers")
    if promised != held:
        raise ValueError(
            f"{'cut off' if promised > held else 'more than one array'}: its header promises "
            f"{dtype} of shape {shape} ({promised:,} bytes), and {held:,} bytes follow"
        )
    file.seek(start)
    values: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return values


def parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file of plain columns; ValueError where these take more than the bound.

    A column takes its unpacked bytes, or eight for each row: runs of one value take no bytes. A
    text that is repeated is read once.
    """
    with pq.ParquetFile(path) as file:
        about, schema = file.metadata, file.schema_arrow
    columns = list(zip(schema.names, schema.types, strict=True))
    for name, kind in columns:
        if pa.types.is_nested(kind):
            raise ValueError(f"its column {name!r} holds {kind}")
    size = sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups))
    check(path, max(size, 8 * about.num_rows * about.num_columns))
    return pq.ParquetFile(path, read_dictionary=[n for n, kind in columns if kind in TEXTS])


class Bounded(io.RawIOBase):
    """A stream that raises ValueError where it is longer than a file may unpack to."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__()
        self.stream, self.path = stream, path

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer; their number, zero at the end."""
        content = self.stream.read(len(buffer))
        buffer[: len(content)] = content
        check(self.path, self.stream.tell())
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place within the bound."""
        if whence == io.SEEK_SET:
            check(self.path, offset)
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self.stream.tell()

    def close(self) -> None:
        """Close the stream too."""
        self.stream.close()
        super().close()


def compressed(path: Path) -> bool:
    """Whether a file is compressed as a whole, by gzip, bzip2 or xz."""
    return _opener(path) is not None


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, which is decompressed within the bound where it is compressed."""
    opener = _opener(path)
    stream = Bounded(opener(path), path) if opener else path.open("rb", buffering=0)
    with io.BufferedReader(stream, CHUNK) as file:
        yield file


def _opener(path: Path) -> Callable[[Path], Any] | None:
    with path.open("rb") as file:
        head = file.read(max(map(len, OPENERS)))
    return next((opener for magic, opener in OPENERS.items() if head.startswith(magic)), None)


def drain(file: IO[bytes]) -> None:
    """Read a stream to its end, where a compressed one has its checksum."""
    while file.read(CHUNK):
        pass
