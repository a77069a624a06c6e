"""Downloads of data sets: goes on where one stopped, checks the sum, unpacks nothing outside.

pooch looks after what is there already, the checksum, and that no half file takes a whole one's
name; `resuming` is the downloader that it is given. What came of each file is kept in `SHA256SUMS`
under the data root, as sha256sum writes and checks it.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from tarfile import TarError
from typing import NamedTuple
from zipfile import BadZipFile

from benchmarks.datasets.archives import Opener, Refused, opened
from benchmarks.datasets.disk import sha256
from benchmarks.datasets.resuming import Progress, Resuming

SUMS = "SHA256SUMS"


class FetchError(RuntimeError):
    """A download or an archive that cannot be used; the message says why."""


class Source(NamedTuple):
    """Where data come from: an address, or a file; its checksum, "md5:..." or sha256; its content.

    ``members`` are pairs of a path under the data root and a name in the archive.
    """

    url: str
    checksum: str | None  # None: none was published
    members: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """That of the file."""
        return PurePosixPath(self.url.partition("?")[0]).name

    @property
    def is_local(self) -> bool:
        """Whether it is a file here, and no address."""
        return "://" not in self.url


def fetch(
    source: Source, root: Path, *, again: bool = False, progress: Progress | None = None
) -> list[Path]:
    """Bring a source's files under ``root``; the new ones. Those there stay, unless ``again``.

    The download is kept in ``root/downloads``. Raises FetchError where it cannot be had, is not
    what its checksum says, or is no archive that can be unpacked safely.
    """
    wanted = {
        member: name for name, member in source.members if again or not (root / name).exists()
    }
    if not wanted:
        return []
    try:
        archive = _checked(source) if source.is_local else _downloaded(source, root, progress)
        paths = unpack(archive, wanted, root)
        record(root, paths)
    except OSError as error:
        raise FetchError(f"{str(root)!r} cannot hold the data: {error}") from error
    return paths


def _downloaded(source: Source, root: Path, progress: Progress | None) -> Path:
    import pooch

    folder = root / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{source.name}.part"
    downloader = Resuming(part, checked=source.checksum is not None, progress=progress)
    pooch.get_logger().setLevel("ERROR")  # what it has to say is said by the command
    try:
        return Path(
            pooch.retrieve(
                source.url, source.checksum, fname=source.name, path=folder, downloader=downloader
            )
        )
    except ConnectionError as error:
        raise FetchError(f"{source.url}: {error}") from error
    except ValueError as error:
        raise FetchError(_told(error)) from error


def _checked(source: Source) -> Path:
    import pooch

    if not Path(source.url).is_file():
        raise FetchError(f"{source.url!r} is neither a file nor an address")
    try:
        pooch.hashes.hash_matches(source.url, source.checksum, strict=True, source=source.name)
    except ValueError as error:
        raise FetchError(_told(error)) from error
    return Path(source.url)


def _told(error: Exception) -> str:
    """What pooch says of a wrong checksum, without its guess at the cause."""
    return str(error).partition(" Deleted")[0].replace("downloaded file", "the file")


def unpack(archive: Path, wanted: dict[str, str], root: Path) -> list[Path]:
    """Write the wanted members of an archive, {member: path under ``root``}; what was written.

    FetchError, before anything is written, for an archive that lacks one or that `opened` refuses.
    """
    try:
        with opened(archive) as members:
            if lacking := [name for name in wanted if name not in members]:
                raise FetchError(f"{archive.name} lacks {lacking[0]}; it has {', '.join(members)}")
            inside = [name for name in members if name in wanted]  # in order, so as not to rewind
            return [_written(root / wanted[name], members[name]) for name in inside]
    except (Refused, TarError, BadZipFile, EOFError, zlib.error) as error:
        raise FetchError(f"{archive.name} cannot be unpacked: {error}") from error


def _written(path: Path, content: Opener) -> Path:
    """A file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with content() as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def record(root: Path, paths: Iterable[Path]) -> None:
    """Note the sha256 of files under ``root``."""
    sums = recorded(root) | {str(path.relative_to(root)): sha256(path) for path in paths}
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
    (root / SUMS).write_text("".join(lines), encoding="utf-8")


def recorded(root: Path) -> dict[str, str]:
    """The sha256 of every file that was fetched into ``root``, by its name there."""
    path = root / SUMS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
