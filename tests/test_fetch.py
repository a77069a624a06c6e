"""Downloads from a local server: resumed, checked, unpacked safely; and the command around them."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks import datasets
from benchmarks.cli.app import app
from benchmarks.datasets import download as fetch
from benchmarks.datasets import maf, resuming
from benchmarks.datasets.download import FetchError, Source, opened, redirect
from flows.registry import load_plugin

cli = CliRunner()
CONTENT = np.random.default_rng(0).bytes(100_000)


class Server:
    """Serves one file; ``cuts`` are bytes after which answers break off, one an answer."""

    def __init__(self) -> None:
        self.content, self.tag, self.ranges = CONTENT, '"v1"', True
        self.cuts: list[int] = []
        self.asked: list[str | None] = []
        self.sent = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/folder/data.tar.gz?download=1"

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        wanted, version = to.headers["Range"], to.headers["If-Range"]
        self.asked.append(wanted)
        start = 0
        if wanted and self.ranges and version in (None, self.tag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content) > 0 and start:
            to.send_response(416)
            to.send_header("Content-Range", f"bytes */{len(self.content)}")
            to.send_header("Content-Length", "0")
            to.end_headers()
            return
        body = self.content[start:]
        to.send_response(206 if start else 200)
        if start:
            last = len(self.content) - 1
            to.send_header("Content-Range", f"bytes {start}-{last}/{len(self.content)}")
        if self.tag:
            to.send_header("ETag", self.tag)
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        body = body[: self.cuts.pop(0)] if self.cuts else body
        self.sent += len(body)
        to.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


def download(server: Server, folder: Path, checked: bool = True) -> bytes:
    target = folder / "whole"
    resuming.Resuming(folder / "part", checked=checked)(server.url, target, None)
    assert not (folder / "part").exists()
    assert not (folder / "part.version").exists()
    return target.read_bytes()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONTENT)), max_size=4), tag=st.sampled_from(['"v"', ""]))
def test_wherever_it_breaks_off_little_is_sent_twice(server, tmp_path, cuts, tag) -> None:
    server.cuts, server.sent, server.tag = list(cuts), 0, tag
    assert download(server, tmp_path) == CONTENT
    assert server.sent - len(CONTENT) < max(1, resuming.CHUNK * len(cuts))


def test_a_second_process_goes_on_where_the_first_was_stopped(server, tmp_path) -> None:
    server.cuts = [40_000] + [0] * resuming.TRIES
    with pytest.raises(ConnectionError, match="gave up after 32,768 bytes, which are kept"):
        download(server, tmp_path)
    server.cuts, server.asked = [], []
    assert download(server, tmp_path) == CONTENT
    assert server.asked == ["bytes=32768-"]


@pytest.mark.parametrize("change", ["version", "no ranges", "unknown", "shorter"])
def test_what_cannot_be_continued_begins_anew(change, server, tmp_path) -> None:
    (tmp_path / "part").write_bytes(b"x" * 40_000)
    (tmp_path / "part.version").write_text('"v0"' if change == "version" else '"v1"')
    server.ranges = change != "no ranges"
    if change == "unknown":
        (tmp_path / "part.version").unlink()
    if change == "shorter":
        server.content = CONTENT[:20_000]
    assert download(server, tmp_path, checked=False) == server.content


def test_a_whole_part_is_not_fetched_again(server, tmp_path) -> None:
    (tmp_path / "part").write_bytes(CONTENT)
    assert download(server, tmp_path) == CONTENT
    assert server.sent == 0


def tar(*members: tuple[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                archive.addfile(info)
    return buffer.getvalue()


def npy(x: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, x)
    return buffer.getvalue()


def special(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info


GOOD = ("data/power/data.npy", b"numbers")
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
    assert len(server.asked) == 1  # the archive is kept


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
    (tmp_path / "b.csv.gz").write_bytes(b"2")
    fetch.unpack(tmp_path / "b.csv.gz", {"b.csv.gz": "set/b.csv.gz"}, tmp_path)
    assert [(tmp_path / "set" / name).read_bytes() for name in ("a", "b.csv.gz")] == [b"1", b"2"]


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


def test_a_plug_in_of_one_file_is_downloaded(server, tmp_path, monkeypatch) -> None:
    """Its addresses, its checksum and its reader stand beside its loader."""
    server.content = tar(("numbers.npy", npy(np.random.default_rng(0).normal(size=(300, 2)))))
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        f"""
import numpy as np
import torch
from benchmarks.datasets import Dataset, register
from benchmarks.datasets.disk import Absent, data_root
from benchmarks.datasets.download import Source

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
        load_plugin(plugin)
        assert "mine" in datasets.downloadable()
        fetched = cli.invoke(app, ["data", "fetch", "mine", "--data-root", str(root)])
        assert fetched.exit_code == 0, fetched.output
        verified = cli.invoke(app, ["data", "verify", "mine", "--data-root", str(root)])
        assert verified.exit_code == 0
        assert "300 rows of 2 columns; files as fetched" in verified.stdout


def test_the_command_fetches_and_verifies(tmp_path: Path) -> None:
    numbers = npy(np.random.default_rng(0).normal(size=(500, 43)))
    content = tar(("data/miniboone/data.npy", numbers))
    archive, root = tmp_path / "a.tar.gz", tmp_path / "root"
    archive.write_bytes(content)
    place = ["--data-root", str(root)]
    arguments = ["data", "fetch", "miniboone", "--from", str(archive), *place]
    refused = cli.invoke(app, arguments)
    assert refused.exit_code == 1
    assert "does not match" in refused.stderr
    assert "give the --checksum" in refused.stderr
    fetched = cli.invoke(app, [*arguments, "--checksum", hashlib.sha256(content).hexdigest()])
    assert fetched.exit_code == 0, fetched.output
    assert "already in" in cli.invoke(app, arguments).stdout
    listed = cli.invoke(app, ["data", "list", *place]).stdout
    assert "absent: flowgauge data fetch gas" in listed
    verified = cli.invoke(app, ["data", "verify", *place])
    assert verified.exit_code == 1
    assert "NOT the published set: 43 columns and 405 / 45 / 50 rows" in verified.stdout
    assert "files as fetched" in verified.stdout
    assert "gas" not in verified.stdout
    (root / "miniboone/data.npy").write_bytes(numbers[:1000])
    again = cli.invoke(app, ["data", "verify", "miniboone", "gas", *place])
    assert again.exit_code == 1
    assert "cut off" in again.stdout
    assert "put gas/ethylene_CO.pickle there" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fetch", "mnist"], ["mnist", "power"]),
        (["fetch", "magic"], ["magic", "power"]),
        (["fetch", "gas", "--original"], ["gas", "miniboone"]),
        (["fetch", "--original", "--from", "x"], ["--from", "--original"]),
        (["fetch", "--from", "nosuch.tar"], ["nosuch.tar", "neither a file nor an address"]),
        (["fetch", "--from", "http://x/y", "--checksum", "md5:0"], ["md5:0", "sha256"]),
        (["fetch", "--data-root", __file__], ["test_fetch.py"]),
        (["verify", "nosuch"], ["nosuch", "bsds300"]),
        (["verify", "--data-root", "nosuch"], ["nosuch", "no folder"]),
        (["info", "nosuch"], ["nosuch", "magic"]),
        (["info", "nosuch.csv"], ["nosuch.csv", "does not exist"]),
        (["info", "magic", "--dequantise"], ["magic", "no file"]),
        (["info", "power"], ["power", "--data-root"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, expected, monkeypatch) -> None:
    result = cli.invoke(app, ["data", *arguments])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    for text in expected:
        assert text in result.stderr


def test_the_command_describes_a_set() -> None:
    result = cli.invoke(app, ["data", "info", "gaussian_2"])
    assert result.exit_code == 0
    assert "entropy" in result.stdout
    assert "50,000 rows" in result.stdout
