"""Archives from elsewhere, opened without trusting them: no member may leave the folder."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

Opener = Callable[[], IO[bytes]]
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
UNIX_FILE = (
    8  # of the kinds of file, as a zip archive made on Unix has them; 0 where it is not said
)


class Refused(ValueError):
    """An archive that is none, or that holds what it must not."""


@contextmanager
def opened(archive: Path) -> Iterator[dict[str, Opener]]:
    """The files of a tar or zip archive by name, each with what opens it; a lone file is its own.

    Refused as a whole where any member would leave the folder, or is neither file nor folder. Only
    content can be read: owners, modes and links are never taken over, since nothing is extracted.
    """
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            yield _of_tar(tar)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield _of_zip(zipped)
    elif archive.name.endswith(SUFFIXES):
        raise Refused("it is no archive, or cut off")
    else:
        yield {archive.name: lambda: archive.open("rb")}


def _of_tar(tar: tarfile.TarFile) -> dict[str, Opener]:
    found: dict[str, Opener] = {}
    for member in tar:
        name = _safe(member.name)
        if member.isfile():
            found[name] = partial(_content, tar, member)
        elif not member.isdir():
            raise Refused(f"{member.name!r} is neither a file nor a folder: a link or a device")
    return found


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None  # as of every regular file
    return content


def _of_zip(zipped: zipfile.ZipFile) -> dict[str, Opener]:
    found: dict[str, Opener] = {}
    for member in zipped.infolist():
        name = _safe(member.filename)
        if member.is_dir():
            continue
        if member.external_attr >> 28 not in (0, UNIX_FILE):
            raise Refused(f"{member.filename!r} is neither a file nor a folder: a link or a device")
        found[name] = partial(zipped.open, member)
    return found


def _safe(name: str) -> str:
    """A member's name in its shortest form; Refused for one that leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        raise Refused(f"its member {name!r} would leave the folder")
    return str(path)
