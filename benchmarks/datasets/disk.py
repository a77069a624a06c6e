"""Files of data sets that do not come with the package: folder, hashes, downloads.

pooch keeps what is there, checks sums, and gives no partial file the name of a whole one. sha256
sums of all files that were unpacked are kept in `SHA256SUMS` under the data root, in the format of
sha256sum.
"""

import hashlib
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import numpy as np

from benchmarks.core import store
from benchmarks.core.formats import brief

VARIABLE = "FLOWGAUGE_DATA"
SUMS = "SHA256SUMS"
CHUNK = 1 << 16  # bytes of a download that are written at once
TIMEOUT = (10, 60)  # seconds to connect, and between bytes

ARCHIVE = re.compile(r"\.(tar|tgz|zip)(\.|$)")  # in a file's name

Progress = Callable[[int, int], None]  # bytes so far, and in total


class Absent(FileNotFoundError, ValueError):
    """A data set whose files are not there; the message names the places."""


class FetchError(RuntimeError):
    """A download or an archive that cannot be used; the message gives the reason."""


def data_root(root: Path | None = None) -> Path:
    """Return the folder of data files: the one given, or FLOWGAUGE_DATA, or the user's cache.

    Raises ValueError if FLOWGAUGE_DATA is not a folder.
    """
    if root is not None:
        return root
    if folder := os.environ.get(VARIABLE):
        if not Path(folder).is_dir():
            raise ValueError(f"{VARIABLE} is {folder!r}, which is not a folder")
        return Path(folder)
    import pooch  # slow

    return Path(pooch.os_cache("flowgauge"))


def sha256(path: Path) -> str:
    """Return the sha256 of a file, 64 digits; cached while its size and time stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_size(path: Path, size: int) -> None:
    """ValueError, with a remedy, if a file would unpack to more bytes than any of its size."""
    store.check_size(path, size, "a file of its size: save it with less compression")


def read_npy(path: Path) -> np.ndarray:
    """Read a two-dimensional array of numbers; ValueError for another."""
    with path.open("rb") as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype.kind not in "fiub" or array.ndim != 2:
        raise ValueError(
            f"{str(path)!r} must hold a table of numbers, (rows, columns), and holds {array.dtype} "
            f"of shape {array.shape}"
        )
    return array


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
        return PurePosixPath(self.url.partition("?")[0]).name


def redirect(sources: Sequence[Source], url: str | None, checksum: str | None) -> list[Source]:
    """Merge sources of one address, and replace the address and the checksum of the only one.

    Raises ValueError if there are several to replace, and for a malformed address or checksum.
    """
    merged: dict[str, Source] = {}
    for source in sources:
        before = merged.setdefault(source.url, source._replace(members=()))
        merged[source.url] = before._replace(members=before.members + source.members)
    if url and "://" not in url and not Path(url).is_file():
        raise ValueError(f"--from {url!r} is neither a file nor an address")
    if checksum and not re.fullmatch(r"md5:[0-9a-f]{32}|(sha256:)?[0-9a-f]{64}", checksum):
        raise ValueError(f"--checksum {checksum!r} is malformed: write md5:..., or sha256:...")
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
    FetchError if it fails, if its checksum is wrong, or if it cannot be unpacked.
    """
    targets = {
        member: name for name, member in source.members if again or not (root / name).exists()
    }
    if not targets:
        return []
    try:
        archive = _archive(source, root, progress or (lambda done, total: None))
        try:
            paths = _unpacked(archive, targets, root, checked=source.checksum is not None)
        except FetchError:
            if source.checksum is None and archive.parent == root / "downloads":
                archive.unlink()  # nothing else tells that it is not what the source has
            raise
        sums = recorded(root) | {str(path.relative_to(root)): sha256(path) for path in paths}
        lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
        (root / SUMS).write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise FetchError(f"{str(root)!r} cannot hold the data: {error}") from error
    return paths


def _archive(source: Source, root: Path, progress: Progress) -> Path:
    """Return the path of a source's archive, downloaded if need be and verified."""
    import pooch
    import requests

    folder, path = root / "downloads", source.url
    part = folder / f"{source.name}.part"

    def resume(url: str, output_file: Any, _: Any) -> None:
        """Request the missing bytes, all if the server sends no ranges; the sum tells a mixture."""
        start = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416 and start:  # the part is of another file, or whole
                part.unlink()
                return resume(url, output_file, _)
            response.raise_for_status()
            start = start if response.status_code == 206 else 0
            total = start + int(response.headers.get("Content-Length", 0))
            with part.open("ab" if start else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    progress(file.tell(), total)
        os.replace(part, output_file)

    try:
        if "://" in path:
            folder.mkdir(parents=True, exist_ok=True)
            pooch.get_logger().setLevel("ERROR")  # the command reports instead
            path = pooch.retrieve(path, source.checksum, source.name, folder, None, resume)
        else:
            pooch.hashes.hash_matches(path, source.checksum, strict=True, source=source.name)
    except requests.RequestException as error:
        hint = f"; {part.stat().st_size:,} bytes are kept: run it again" if part.exists() else ""
        raise FetchError(f"{source.url}: {brief(error)}{hint}") from error
    except ValueError as error:  # pooch's on a wrong checksum, which guesses at the cause
        reason = str(error).partition(" Deleted")[0].replace("downloaded file", "the file")
        raise FetchError(reason) from error
    return Path(path)


def _unpacked(archive: Path, targets: dict[str, str], root: Path, checked: bool) -> list[Path]:
    """Write members of a tar or zip, {member: path under ``root``}; another file is its own member.

    Contents alone are read, to their sums: no name, mode, owner or link of an archive reaches the
    disk. Without a checksum a file that has no sums inside is refused.
    """
    try:
        with ExitStack() as stack:
            members: dict[str, tuple[int, Callable[[], Any]]]  # size and content by name
            if zipfile.is_zipfile(archive):
                file = stack.enter_context(zipfile.ZipFile(archive))
                infos = file.infolist()
                members = {m.filename: (m.file_size, partial(file.open, m)) for m in infos}
            elif tarfile.is_tarfile(archive):
                tar = stack.enter_context(tarfile.open(archive))
                files = {str(PurePosixPath(m.name)): m for m in tar if m.isfile()}
                while tar.fileobj and tar.fileobj.read(1 << 20):  # the sum is at the end
                    pass
                members = {n: (m.size, partial(tar.extractfile, m)) for n, m in files.items()}
            elif ARCHIVE.search(archive.name):
                raise ValueError("it is not an archive, or cut off")
            elif not checked and archive.suffix != ".gz":
                raise FetchError(
                    f"{archive.name} has no checksum, and nothing in such a file shows a damaged "
                    f"byte: if it is right, its source can state sha256:{sha256(archive)}"
                )
            else:
                members = {archive.name: (archive.stat().st_size, partial(archive.open, "rb"))}
            check_size(archive, sum(size for size, _ in members.values()))
            if lacking := [name for name in targets if name not in members]:
                raise FetchError(f"{archive.name} lacks {lacking[0]}; it has {', '.join(members)}")
            ordered = [name for name in members if name in targets]  # so that a tar never rewinds
            return [_written(root / targets[name], members[name][1]()) for name in ordered]
    except Exception as error:
        if isinstance(error, FetchError) or (isinstance(error, OSError) and error.errno):
            raise  # the latter of a file that cannot be written
        raise FetchError(f"{archive.name} cannot be unpacked: {brief(error)}") from error


def _written(path: Path, content: IO[bytes]) -> Path:
    """Write a file that is either whole or not there; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with content, store.written(path) as draft, draft.open("wb") as target:
        shutil.copyfileobj(content, target, 1 << 20)
    return path


def recorded(root: Path) -> dict[str, str]:
    """Read the sha256 of every file that was fetched into ``root``, by its name there."""
    path = root / SUMS
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
