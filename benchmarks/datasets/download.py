"""Downloads of data sets: resumed, verified by checksum, unpacked safely.

pooch keeps what is there, checks sums, and gives no partial file the name of a whole one;
`resuming` is its downloader. sha256 sums of all files that were unpacked are kept in `SHA256SUMS`
under the data root, in the format of sha256sum.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from benchmarks.core.formats import brief
from benchmarks.core.unpacking import BROKEN, check, compressed, drain, unpacked, zipped
from benchmarks.datasets.disk import sha256
from benchmarks.datasets.resuming import Progress, Resuming

SUMS = "SHA256SUMS"
SUFFIXES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zip")
UNIX_FILE = 8  # kind of a regular file in a zip archive made on Unix; 0 if it has no kind

Opener = Callable[[], Any]  # opens a member of an archive for reading bytes


class FetchError(RuntimeError):
    """A download or an archive that cannot be used; the message gives the reason."""


class Source(NamedTuple):
    """An address or a local file, its checksum ("md5:..." or sha256), and the files in it.

    ``members`` are pairs of a path under the data root and a name in the archive. A checksum of
    None means that none is published.
    """

    url: str
    checksum: str | None
    members: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The name of the file."""
        return PurePosixPath(self.url.partition("?")[0]).name

    @property
    def is_local(self) -> bool:
        """Whether it is a local file, not an address."""
        return "://" not in self.url


def redirect(sources: Sequence[Source], url: str | None, checksum: str | None) -> list[Source]:
    """Merge sources of one address, and replace the address and the checksum of the only one.

    Raises ValueError if there are several to replace, and for an address or checksum that is none.
    """
    merged: dict[str, Source] = {}
    for source in sources:
        before = merged.setdefault(source.url, source._replace(members=()))
        merged[source.url] = before._replace(members=before.members + source.members)
    if url and "://" not in url and not Path(url).is_file():
        raise ValueError(f"--from {url!r} is neither a file nor an address")
    if checksum and not re.fullmatch(r"md5:[0-9a-f]{32}|(sha256:)?[0-9a-f]{64}", checksum):
        raise ValueError(f"--checksum {checksum!r} is none: write md5:..., or sha256:...")
    if not (url or checksum):
        return list(merged.values())
    if len(merged) != 1:
        raise ValueError(f"--from and --checksum are for one archive, not for: {', '.join(merged)}")
    (source,) = merged.values()
    return [source._replace(url=url or source.url, checksum=checksum or source.checksum)]


def fetch(
    source: Source, root: Path, *, again: bool = False, progress: Progress | None = None
) -> list[Path]:
    """Bring a source's files under ``root``; return the new ones.

    Files that are there stay, unless ``again``. The download is kept in ``root/downloads``. Raises
    FetchError if it fails, if its checksum is wrong, or if it cannot be unpacked safely.
    """
    wanted = {
        member: name for name, member in source.members if again or not (root / name).exists()
    }
    if not wanted:
        return []
    try:
        archive = _verified(source) if source.is_local else _downloaded(source, root, progress)
        if source.checksum is None and not (compressed(archive) or zipfile.is_zipfile(archive)):
            raise FetchError(
                f"{archive.name} has no checksum, and nothing in such a file shows a damaged byte: "
                f"if it is right, its source can state sha256:{sha256(archive)}"
            )
        paths = unpack(archive, wanted, root)
        record(root, paths)
    except OSError as error:
        raise FetchError(f"{str(root)!r} cannot hold the data: {error}") from error
    return paths


def _downloaded(source: Source, root: Path, progress: Progress | None) -> Path:
    """Download a source, or find it there; return the path of the file."""
    import pooch

    folder = root / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{source.name}.part"
    downloader = Resuming(part, checked=source.checksum is not None, progress=progress)
    pooch.get_logger().setLevel("ERROR")  # the command reports instead
    try:
        path = pooch.retrieve(
            source.url, source.checksum, fname=source.name, path=folder, downloader=downloader
        )
    except ConnectionError as error:
        raise FetchError(f"{source.url}: {error}") from error
    except ValueError as error:
        raise FetchError(_reason(error)) from error
    return Path(path)


def _verified(source: Source) -> Path:
    """Check the sum of a local file; return its path."""
    import pooch

    if not Path(source.url).is_file():
        raise FetchError(f"{source.url!r} is neither a file nor an address")
    try:
        pooch.hashes.hash_matches(source.url, source.checksum, strict=True, source=source.name)
    except ValueError as error:
        raise FetchError(_reason(error)) from error
    return Path(source.url)


def _reason(error: Exception) -> str:
    """Return pooch's message on a wrong checksum, without its guess at the cause."""
    return str(error).partition(" Deleted")[0].replace("downloaded file", "the file")


def unpack(archive: Path, wanted: dict[str, str], root: Path) -> list[Path]:
    """Write the wanted members of an archive, {member: path under ``root``}; return the paths.

    Raises FetchError, before anything is written, if a member is missing or the archive is refused
    by `opened`.
    """
    try:
        with opened(archive) as members:
            if lacking := [name for name in wanted if name not in members]:
                raise FetchError(f"{archive.name} lacks {lacking[0]}; it has {', '.join(members)}")
            ordered = [name for name in members if name in wanted]  # so that a tar never rewinds
            return [_written(root / wanted[name], members[name]) for name in ordered]
    except (*BROKEN, MemoryError, tarfile.TarError) as error:
        if isinstance(error, FetchError) or (isinstance(error, OSError) and error.errno):
            raise  # the latter of a file that cannot be written
        raise FetchError(f"{archive.name} cannot be unpacked: {brief(error)}") from error


@contextmanager
def opened(archive: Path) -> Iterator[dict[str, Opener]]:
    """Open a tar or zip archive as its files by name; any other file is its own only member.

    The archive is refused as a whole, by ValueError or what reading raises, if any member would
    leave the folder or is neither a file nor a folder, if it unpacks to more than its size allows,
    or if a sum in it is wrong. Only contents can be read: owners, modes and links are ignored.
    """
    if _is_tar(archive):
        with unpacked(archive) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = _files((m.name, _tar_kind(m), partial(tar.extractfile, m)) for m in tar)
            check(archive, sum(member.size for member in tar.getmembers()))
            file.seek(tar.offset)
            drain(file)
            yield members
    elif zipfile.is_zipfile(archive):
        with zipped(archive) as zip_file:
            yield _files(
                (m.filename, _zip_kind(m), partial(zip_file.open, m)) for m in zip_file.infolist()
            )
    elif compressed(archive):
        with unpacked(archive) as file:
            drain(file)
        yield {archive.name: partial(archive.open, "rb")}
    elif archive.name.endswith(SUFFIXES):
        raise ValueError("it is no archive, or cut off")
    else:
        yield {archive.name: partial(archive.open, "rb")}


def _is_tar(archive: Path) -> bool:
    with unpacked(archive) as file:
        return tarfile.is_tarfile(file)


def _tar_kind(member: tarfile.TarInfo) -> str:
    """Return "folder", "file" or, for a link or a device, ""."""
    return "folder" if member.isdir() else "file" * member.isfile()


def _zip_kind(member: zipfile.ZipInfo) -> str:
    """Return "folder", "file" or, for a link or a device, ""."""
    return "folder" if member.is_dir() else "file" * (member.external_attr >> 28 in (0, UNIX_FILE))


def _files(members: Iterable[tuple[str, str, Opener]]) -> dict[str, Opener]:
    """Check members of an archive, (name, kind, opener); return its files by shortest name."""
    files: dict[str, Opener] = {}
    for name, kind, opener in members:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
            raise ValueError(f"its member {name!r} would leave the folder")
        if not kind:
            raise ValueError(f"{name!r} is neither a file nor a folder: a link or a device")
        if kind == "file":
            files[str(path)] = opener
    return files


def _written(path: Path, opener: Opener) -> Path:
    """Write a file that is either whole or not there; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    content: IO[bytes]
    try:
        with opener() as content, temporary.open("wb") as target:
            shutil.copyfileobj(content, target, 1 << 20)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def record(root: Path, paths: Iterable[Path]) -> None:
    """Add the sha256 of files under ``root`` to its sums."""
    sums = recorded(root) | {str(path.relative_to(root)): sha256(path) for path in paths}
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
    (root / SUMS).write_text("".join(lines), encoding="utf-8")


def recorded(root: Path) -> dict[str, str]:
    """Read the sha256 of every file that was fetched into ``root``, by its name there."""
    path = root / SUMS
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
