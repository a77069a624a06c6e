"""Fetching archives: checksums, safe unpacking, zips and lone files."""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import datasets
from benchmarks.datasets import download as fetch
from benchmarks.datasets import maf
from benchmarks.datasets.download import FetchError, Source, opened, redirect
from file_server import CONTENT, special, tar

GOOD = ("data/power/data.npy", b"numbers")
LONE = gzip.compress(b"2", mtime=0)
WANTED = (("power/data.npy", "data/power/data.npy"),)


def source(url: str, content: bytes) -> Source:
    return Source(url, f"md5:{hashlib.md5(content).hexdigest()}", WANTED)


def test_an_archive_is_fetched_once_and_recorded(server, tmp_path) -> None:
    server.content = tar(("data", special(tarfile.DIRTYPE)), GOOD, ("data/mnist/x", b"large"))
    one = source(server.url, server.content)
    assert fetch.fetch(one, tmp_path) == [tmp_path / "power/data.npy"]
    assert (tmp_path / "power/data.npy").read_bytes() == b"numbers"
    assert fetch.recorded(tmp_path) == {"power/data.npy": hashlib.sha256(b"numbers").hexdigest()}
    assert not (tmp_path / "mnist").exists()
    (tmp_path / "power/data.npy").write_bytes(b"mine")
    assert fetch.fetch(one, tmp_path) == []
    assert fetch.fetch(one, tmp_path, again=True) == [tmp_path / "power/data.npy"]
    assert (tmp_path / "power/data.npy").read_bytes() == b"numbers"
    assert len(server.requests) == 1  # the archive is kept


def test_a_wrong_checksum_leaves_nothing_behind(server, tmp_path) -> None:
    server.content = tar(GOOD)
    wrong = source(server.url, b"something else")
    with pytest.raises(FetchError, match=r"does not match the known hash: expected \w+"):
        fetch.fetch(wrong, tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    (tmp_path / "here.tar.gz").write_bytes(server.content)
    with pytest.raises(FetchError, match="does not match"):
        fetch.fetch(wrong._replace(url=str(tmp_path / "here.tar.gz")), tmp_path)


def test_an_address_that_fails_is_named(server, tmp_path) -> None:
    one = source(server.url.replace("http", "nosuch", 1), b"")
    with pytest.raises(FetchError, match="nosuch"):
        fetch.fetch(one, tmp_path)


EVIL = {
    "up": tar(GOOD, ("../evil", b"x")),
    "up inside": tar(GOOD, ("data/../../evil", b"x")),
    "absolute": tar(GOOD, ("/tmp/evil", b"x")),
    "folder up": tar(GOOD, ("../evil", special(tarfile.DIRTYPE))),
    "symlink": tar(GOOD, ("data/power", special(tarfile.SYMTYPE, "/tmp"))),
    "hard link": tar(GOOD, ("data/x", special(tarfile.LNKTYPE, "/etc/passwd"))),
    "device": tar(GOOD, ("data/x", special(tarfile.CHRTYPE))),
    "pipe": tar(GOOD, ("data/x", special(tarfile.FIFOTYPE))),
    "backslash": tar(GOOD, ("..\\evil", b"x")),
    "drive": tar(GOOD, ("C:evil", b"x")),
    "cut off": tar(GOOD, ("data/large", CONTENT))[:50_000],
    "cut off, plain": tar(GOOD, ("data/large", CONTENT), mode="w")[:50_000],
    "no archive": b"<html>not found</html>",
    "empty": b"",
    "lacking": tar(("data/other", b"x")),
}


@pytest.mark.parametrize("content", EVIL.values(), ids=EVIL)
def test_an_archive_that_must_not_be_unpacked_writes_nothing(content, tmp_path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    archive = tmp_path / "data.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(FetchError, match=r"data.tar.gz (cannot be unpacked|lacks)"):
        fetch.fetch(source(str(archive), content), root)
    assert list(tmp_path.iterdir()) in ([archive, root], [root, archive])
    assert not list(root.iterdir())


@settings(max_examples=40)
@given(data=st.data())
def test_no_damage_to_an_archive_goes_unnoticed_as_a_crash(tmp_path_factory, data) -> None:
    """Flipped bytes give a FetchError or, where the format does not notice, a file: never more."""
    root = tmp_path_factory.mktemp("damaged")
    content = bytearray(tar(GOOD, ("data/more", CONTENT[:2000])))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] ^= data.draw(st.integers(1, 255))
    archive = root / "data.tar.gz"
    archive.write_bytes(content)
    try:
        fetch.fetch(source(str(archive), bytes(content)), root)
    except FetchError:
        assert [path.name for path in root.iterdir()] == ["data.tar.gz"]


def archive_of(kind: str, member: tuple[str, bytes]) -> bytes:
    """An archive of one member in a format, or the member alone, compressed or not."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr(*member)
        return buffer.getvalue()
    if kind == "gz":
        return gzip.compress(member[1])
    return member[1] if kind == "npy" else tar(member, mode=f"w:{kind.removeprefix('tar.')}")


def wanted_of(kind: str, path: Path) -> Source:
    """A source of an archive, for which no checksum is published."""
    name = path.name if kind in ("gz", "npy") else GOOD[0]
    return Source(str(path), None, (("power/data.npy", name),))


@pytest.mark.parametrize("kind", ["zip", "gz", "npy", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_no_flipped_byte_changes_what_is_fetched(kind: str, tmp_path: Path) -> None:
    """Without a checksum too: by the sums in the file, or else the file is refused."""
    content, refused = archive_of(kind, (GOOD[0], CONTENT[:3000])), 0
    path = tmp_path / f"x.{kind}"
    for place in range(0, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            (brought,) = fetch.fetch(wanted_of(kind, path), tmp_path / str(place))
        except FetchError:
            refused += 1
        else:
            assert kind == "gz" or brought.read_bytes() == CONTENT[:3000]
    assert refused > 30


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_that_unpacks_to_too_much_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_bytes(archive_of(kind, (GOOD[0], bytes(80_000_000))))
    with pytest.raises(FetchError, match="it unpacks to 8"):
        fetch.fetch(wanted_of(kind, path), tmp_path / "root")
    assert not list((tmp_path / "root").rglob("*"))


@pytest.mark.parametrize("name", ["../evil", "/evil", "link"])
def test_a_zip_that_tries_to_escape_is_refused(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK if name == "link" else stat.S_IFREG) << 16
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("fine", b"1")
        zipped.writestr(info, b"/etc")
    with pytest.raises(ValueError, match=r"leave the folder|a link"), opened(archive):
        pass


def test_a_zip_and_a_lone_file_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        zipped.writestr("folder/", b"")
        zipped.writestr("folder/a", b"1")
    fetch.unpack(tmp_path / "x.zip", {"folder/a": "set/a"}, tmp_path)
    fetch.unpack(tmp_path / "x.zip", {}, tmp_path)
    (tmp_path / "b.csv.gz").write_bytes(LONE)
    fetch.unpack(tmp_path / "b.csv.gz", {"b.csv.gz": "set/b.csv.gz"}, tmp_path)
    assert [(tmp_path / "set" / name).read_bytes() for name in ("a", "b.csv.gz")] == [b"1", LONE]


@pytest.mark.parametrize("name", datasets.downloadable())
def test_the_sources_bring_what_the_loaders_look_for(name: str) -> None:
    """The archive, whose members are merged; and the originals of those that have some."""
    (archive,) = redirect([*datasets.sources(name), *datasets.sources("gas")], None, None)
    brought = {file for file, _ in archive.members}
    choices = maf.PUBLISHED[name].files
    assert any(set(files) <= brought for files in choices)
    if maf.PUBLISHED[name].originals:
        brought = {file for s in datasets.sources(name, original=True) for file, _ in s.members}
        assert any(set(files) <= brought for files in choices)
    else:
        with pytest.raises(ValueError, match=name):
            datasets.sources(name, original=True)
