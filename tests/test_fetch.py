"""Fetching archives from a local server, and `flowgauge data`: fetch, verify and describe."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import datasets
from benchmarks.datasets import maf
from benchmarks.datasets.disk import FetchError, Source, fetch, recorded, redirect
from file_server import CONTENT, npy, special, tar
from runs import flowgauge

GOOD = ("data/power/data.npy", b"numbers")
WANTED = (("power/data.npy", "data/power/data.npy"),)


def source(url: str, content: bytes) -> Source:
    return Source(url, f"md5:{hashlib.md5(content).hexdigest()}", WANTED)


def test_an_archive_is_fetched_once_and_recorded(server, tmp_path) -> None:
    server.content = tar(("data", special(tarfile.DIRTYPE)), GOOD, ("data/mnist/x", b"large"))
    one, path = source(server.url, server.content), tmp_path / "power/data.npy"
    assert fetch(one, tmp_path) == [path]
    assert path.read_bytes() == b"numbers"
    assert recorded(tmp_path) == {"power/data.npy": hashlib.sha256(b"numbers").hexdigest()}
    assert not (tmp_path / "mnist").exists()
    path.write_bytes(b"mine")
    assert fetch(one, tmp_path) == []
    assert fetch(one, tmp_path, again=True) == [path]
    assert path.read_bytes() == b"numbers"
    assert len(server.requests) == 1  # the archive is kept


def test_a_wrong_checksum_leaves_nothing_behind(server, tmp_path) -> None:
    server.content = tar(GOOD)
    wrong = source(server.url, b"something else")
    with pytest.raises(FetchError, match=r"does not match the known hash: expected \w+"):
        fetch(wrong, tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    (tmp_path / "here.tar.gz").write_bytes(server.content)
    with pytest.raises(FetchError, match="does not match"):
        fetch(wrong._replace(url=str(tmp_path / "here.tar.gz")), tmp_path)
    with pytest.raises(FetchError, match="nosuch"):
        fetch(source(server.url.replace("http", "nosuch", 1), b""), tmp_path)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 90_000), max_size=3), ranges=st.booleans())
def test_an_interrupted_download_goes_on(server, tmp_path_factory, cuts, ranges) -> None:
    root = tmp_path_factory.mktemp("root")
    server.content, server.ranges = tar((GOOD[0], CONTENT)), ranges
    server.cuts, server.requests = list(cuts), []
    one = source(server.url, server.content)
    for _ in cuts:
        with pytest.raises(FetchError, match="run it again"):
            fetch(one, root)
    part = root / "downloads/data.tar.gz.part"
    size = part.stat().st_size if part.exists() else 0
    (path,) = fetch(one, root)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == (f"bytes={size}-" if size else None)


def test_a_part_of_another_file_is_dropped(server, tmp_path) -> None:
    server.content = tar(GOOD)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/data.tar.gz.part").write_bytes(bytes(100_000))
    fetch(source(server.url, server.content), tmp_path)
    assert (tmp_path / "power/data.npy").read_bytes() == b"numbers"


BAD = {
    "cut off": tar(GOOD, ("data/large", CONTENT))[:50_000],
    "cut off, plain": tar(GOOD, ("data/large", CONTENT), mode="w")[:50_000],
    "no archive": b"<html>not found</html>",
    "empty": b"",
    "lacking": tar(("data/other", b"x")),
    "a link in its place": tar((GOOD[0], special(tarfile.SYMTYPE, "/etc/passwd"))),
    "bomb": tar((GOOD[0], bytes(80_000_000))),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_an_archive_that_cannot_be_unpacked_writes_nothing(content, tmp_path) -> None:
    root, archive = tmp_path / "root", tmp_path / "data.tar.gz"
    root.mkdir()
    archive.write_bytes(content)
    with pytest.raises(FetchError, match=r"data.tar.gz (cannot be unpacked|lacks)"):
        fetch(source(str(archive), content), root)
    assert not list(root.iterdir())


def test_no_name_or_link_of_an_archive_reaches_the_disk(tmp_path) -> None:
    root, archive = tmp_path / "root", tmp_path / "data.tar.gz"
    evil = [("../evil", b"x"), ("/tmp/evil", b"x"), ("data/power", special(tarfile.SYMTYPE, "/"))]
    archive.write_bytes(tar(GOOD, *evil))
    (path,) = fetch(source(str(archive), archive.read_bytes()), root)
    assert path.read_bytes() == b"numbers"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [archive, root / "SHA256SUMS", path]


def archive_of(kind: str, content: bytes) -> bytes:
    """An archive of one member in a format, or the member alone."""
    if kind == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr(GOOD[0], content)
        return buffer.getvalue()
    return content if kind == "npy" else tar((GOOD[0], content))


@pytest.mark.parametrize("kind", ["zip", "npy", "tar.gz"])
def test_without_a_checksum_no_flipped_byte_changes_what_is_fetched(kind, tmp_path) -> None:
    """By the sums in the file, or else the file is refused."""
    content, refused = archive_of(kind, CONTENT[:3000]), 0
    path = tmp_path / f"x.{kind}"
    members = (("power/data.npy", path.name if kind == "npy" else GOOD[0]),)
    for place in range(0, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            (brought,) = fetch(Source(str(path), None, members), tmp_path / str(place))
        except FetchError:
            refused += 1
        else:
            assert brought.read_bytes() == CONTENT[:3000]
    assert refused > 30


def test_a_lone_compressed_file_is_kept_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "b.csv.gz").write_bytes(content := gzip.compress(b"2"))
    one = Source(str(tmp_path / "b.csv.gz"), None, (("set/b.csv.gz", "b.csv.gz"),))
    (path,) = fetch(one, tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", datasets.downloadable())
def test_the_sources_bring_what_the_loaders_look_for(name: str) -> None:
    """The archive, whose members are merged; and the originals of those that have some."""
    row = maf.PUBLISHED[name]
    (archive,) = redirect([*datasets.sources(name), *datasets.sources("gas")], None, None)
    brought = {file for file, _ in archive.members}
    assert any(set(files) <= brought for files in (*row.files, row.archived or row.files[0]))
    if row.originals:
        brought = {file for s in datasets.sources(name, original=True) for file, _ in s.members}
        assert any(set(files) <= brought for files in row.files)
    else:
        with pytest.raises(ValueError, match=name):
            datasets.sources(name, original=True)


def test_a_plug_in_of_one_file_is_downloaded(server, tmp_path, monkeypatch) -> None:
    """Its addresses, its checksum and its reader stand beside its loader."""
    server.content = tar(("numbers.npy", npy(np.random.default_rng(0).normal(size=(300, 2)))))
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        f"""
import numpy as np
import torch
from benchmarks.datasets import Dataset, register
from benchmarks.datasets.disk import Absent, Source, data_root

def files(name, root=None):
    path = data_root(root) / "mine" / "numbers.npy"
    if not path.is_file():
        raise Absent(str(path))
    return (path,)

def sources(name, original=False):
    return (Source({server.url!r}, None, (("mine/numbers.npy", "numbers.npy"),)),)

@register("mine")
def load(root, seed):
    x = torch.from_numpy(np.load(files("mine", root)[0]))
    return Dataset("mine", 2, x[:200], x[200:250], x[250:], "raw units", "made up")
"""
    )
    root = tmp_path / "root"
    with datasets.registry.temporary():
        place = ["mine", "--plugin", str(plugin), "--data-root", str(root)]
        flowgauge("data", "fetch", *place)
        assert "mine" in datasets.downloadable()
        verified = flowgauge("data", "verify", *place)
        assert "300 rows of 2 columns; files as fetched" in verified.stdout


def test_the_command_fetches_and_verifies(tmp_path: Path) -> None:
    numbers = npy(np.random.default_rng(0).normal(size=(500, 43)))
    content = tar(("data/miniboone/data.npy", numbers))
    archive, root = tmp_path / "a.tar.gz", tmp_path / "root"
    archive.write_bytes(content)
    place = ["--data-root", str(root)]
    arguments = ["data", "fetch", "miniboone", "--from", str(archive), *place]
    refused = flowgauge(*arguments, status=1)
    assert "does not match" in refused.stderr
    assert "--checksum" in refused.stderr
    flowgauge(*arguments, "--checksum", hashlib.sha256(content).hexdigest())
    assert "already in" in flowgauge(*arguments).stdout
    listed = flowgauge("data", "list", *place).stdout
    assert "absent: flowgauge data fetch gas" in listed
    verified = flowgauge("data", "verify", *place, status=1)
    assert "NOT the published set: 43 columns and 405 / 45 / 50 rows" in verified.stdout
    assert "files as fetched" in verified.stdout
    assert "gas" not in verified.stdout
    (root / "miniboone/data.npy").write_bytes(numbers[:1000])
    again = flowgauge("data", "verify", "miniboone", "gas", *place, status=1)
    assert "Expected (500, 43)" in again.stdout
    assert "put gas/ethylene_CO.parquet, or gas/ethylene_CO.txt there" in again.stdout


def test_the_command_describes_a_set() -> None:
    result = flowgauge("data", "info", "gaussian_2")
    assert "entropy" in result.stdout
    assert "50,000 rows" in result.stdout
