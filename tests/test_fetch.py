"""Published sets: archives that are fetched, files that are read number by number."""

import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import datasets
from benchmarks.datasets import maf
from benchmarks.datasets.disk import FetchError, Source, fetch, recorded, redirect
from runs import flowgauge

CONTENT = np.random.default_rng(0).bytes(100_000)
GOOD = ("data/power/data.npy", b"numbers")
WANTED = (("power/data.npy", "data/power/data.npy"),)
RNG, ROWS = np.random.default_rng(0), 400
RANGES = ((0.1, 6, 3), (0, 0.5, 3), (230, 245, 2), (0, 30, 1))  # least, largest, digits
MEASURED = [RNG.uniform(low, high, ROWS).round(digits) for low, high, digits in RANGES]
MINUTES = np.column_stack([*MEASURED, RNG.integers(0, 20, (ROWS, 3)), np.arange(ROWS) % 1440])


class Server:
    """Serves one file; ``cuts`` are bytes after which answers break off, one an answer."""

    def __init__(self) -> None:
        self.content, self.ranges = CONTENT, True
        self.cuts: list[int] = []
        self.requests: list[str | None] = []
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
        wanted = to.headers["Range"]
        self.requests.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        start *= self.ranges
        body = self.content[start:]
        to.send_response(416 if start and not body else 206 if start else 200)
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)


def tar(*members: tuple[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def npy(x: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, x)
    return buffer.getvalue()


def special(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info


def source(url: str, content: bytes) -> Source:
    return Source(url, f"md5:{hashlib.md5(content).hexdigest()}", WANTED)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


def test_an_archive_is_fetched_once_and_recorded(server, tmp_path):
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


def test_a_wrong_checksum_leaves_nothing_behind(server, tmp_path):
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
def test_an_interrupted_download_goes_on(server, tmp_path_factory, cuts, ranges):
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


def test_what_no_checksum_shows_to_be_wrong_is_fetched_again(server, tmp_path):
    one = source(server.url, b"")._replace(checksum=None)
    for server.content in (b"<html>down</html>", tar(GOOD, ("data/large", CONTENT))[:50_000]):
        with pytest.raises(FetchError, match="cannot be unpacked"):
            fetch(one, tmp_path)
    server.content = tar(GOOD)
    assert fetch(one, tmp_path) == [tmp_path / "power/data.npy"]


def test_a_part_of_another_file_is_dropped(server, tmp_path):
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
def test_an_archive_that_cannot_be_unpacked_writes_nothing(content, tmp_path):
    root, archive = tmp_path / "root", tmp_path / "data.tar.gz"
    root.mkdir()
    archive.write_bytes(content)
    with pytest.raises(FetchError, match=r"data.tar.gz (cannot be unpacked|lacks)"):
        fetch(source(str(archive), content), root)
    assert not list(root.iterdir())


def test_no_name_or_link_of_an_archive_reaches_the_disk(tmp_path):
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
def test_without_a_checksum_no_flipped_byte_changes_what_is_fetched(kind, tmp_path):
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


def test_a_lone_compressed_file_is_kept_as_it_is(tmp_path):
    (tmp_path / "b.csv.gz").write_bytes(content := gzip.compress(b"2"))
    one = Source(str(tmp_path / "b.csv.gz"), None, (("set/b.csv.gz", "b.csv.gz"),))
    (path,) = fetch(one, tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", datasets.downloadable())
def test_the_sources_bring_what_the_loaders_look_for(name):
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


def test_a_plug_in_of_one_file_is_downloaded(server, tmp_path):
    server.content = tar(("numbers.npy", npy(np.random.default_rng(0).normal(size=(300, 2)))))
    plugin = tmp_path / "mine.py"
    text = f"""
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
    plugin.write_text(text)
    root = tmp_path / "root"
    with datasets.registry.temporary():
        place = ["mine", "--plugin", str(plugin), "--data-root", str(root)]
        flowgauge("data", "fetch", *place)
        assert "mine" in datasets.downloadable()
        verified = flowgauge("data", "verify", *place)
        assert "300 rows of 2 columns; files as fetched" in verified.stdout


def test_the_command_fetches_and_verifies(tmp_path):
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
    assert "absent: flowgauge data fetch gas" in flowgauge("data", "list", *place).stdout
    verified = flowgauge("data", "verify", *place, status=1)
    assert "NOT the published set: 43 columns and 405 / 45 / 50 rows" in verified.stdout
    assert "files as fetched" in verified.stdout
    assert "gas" not in verified.stdout
    (root / "miniboone/data.npy").write_bytes(numbers[:1000])
    again = flowgauge("data", "verify", "miniboone", "gas", *place, status=1)
    assert "Expected (500, 43)" in again.stdout
    assert "put gas/ethylene_CO.parquet, or gas/ethylene_CO.txt there" in again.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a small file of each set."""
    for folder in ("power", "gas", "hepmass", "miniboone", "BSDS300"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "power/data.npy", MINUTES)
    a, c = RNG.normal(size=(2, ROWS))  # b is a but for noise, d is -a; so a goes, b and c stay
    values = {"a": a, "b": 3 * a + 0.01 * RNG.normal(size=ROWS) + 5, "c": c, "d": -a}
    table = pd.DataFrame({"Time": np.arange(ROWS) / 100, "Meth": 0.0, "Eth": 1.0, **values})
    table.to_parquet(tmp_path / "gas/ethylene_CO.parquet")
    for part in ("train", "test"):  # f1 repeats its least value, f2 another; test has a column more
        table = pd.DataFrame(RNG.normal(size=(ROWS, 4)), columns=["f0", "f1", "f2", "f3"])
        table.loc[RNG.permutation(ROWS)[:100], "f1"] = -9.0
        table.loc[RNG.permutation(ROWS)[:100], "f2"] = 0.5
        table.insert(0, "# label", RNG.integers(0, 2, ROWS).astype(float))
        if part == "test":
            table["mass"] = 1000.0
        table.to_csv(tmp_path / f"hepmass/1000_{part}.csv", index=False)
    np.save(tmp_path / "miniboone/data.npy", RNG.normal(3, 2, (ROWS, 43)))
    with h5py.File(tmp_path / "BSDS300/BSDS300.hdf5", "w") as file:
        for key, rows in {"train": 60, "validation": 20, "test": 40}.items():
            file[key] = RNG.normal(size=(rows, 63)).astype("float32")
    return tmp_path


@pytest.mark.parametrize("name", maf.PUBLISHED)
def test_small_files_load_and_are_said_not_to_be_the_published_set(name, root):
    data, again = datasets.load(name, root), datasets.load(name, root, seed=1)
    assert data.split == "published"
    assert torch.equal(data.train, again.train)  # the split is the published one
    assert "NOT the published set" in data.about
    assert f"{len(data.train):,} / {len(data.val):,} / {len(data.test):,} rows" in data.about
    assert datasets.counts(maf.PUBLISHED[name].rows) in data.about


@pytest.mark.parametrize(("name", "row"), maf.PUBLISHED.items())
def test_the_published_counts_follow_from_tenths(name, row):
    assert row.differs(row.dim, row.rows) == ""
    if name in ("power", "gas", "miniboone"):
        assert tuple(map(len, maf.tails(np.empty((sum(row.rows), 0))))) == row.rows


def test_power_number_by_number(root):
    random = np.random.RandomState(42)
    order = np.arange(ROWS)
    random.shuffle(order)
    noise = {2: 0.01 * random.rand(ROWS), 0: 0.001 * random.rand(ROWS)}  # voltage is drawn first
    meters = random.rand(ROWS, 3)
    noise |= {4 + k: meters[:, k] for k in range(3)} | {7: np.zeros(ROWS)}
    x = np.column_stack([MINUTES[order, c] + noise[c] for c in (0, 2, 4, 5, 6, 7)])
    z = (x - x[:360].mean(0)) / x[:360].std(0)
    data = datasets.load("power", root)
    for part, rows in ((data.train, z[:324]), (data.val, z[324:360]), (data.test, z[360:])):
        assert np.allclose(part.numpy(), rows, rtol=0, atol=1e-12)


def test_gas_number_by_number(root):
    table = pd.read_parquet(root / "gas/ethylene_CO.parquet")
    x = table[["b", "c", "d"]].to_numpy()  # a: the first of two alike; d: against a, kept
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    data = datasets.load("gas", root)
    loaded = torch.cat((data.train, data.val, data.test)).numpy()
    assert np.allclose(loaded, z, rtol=0, atol=1e-12)  # in the order of the file
    assert len(data.train) == 324


def test_hepmass_number_by_number(root):
    train, test = (pd.read_csv(root / f"hepmass/1000_{part}.csv") for part in ("train", "test"))
    signal, columns = train[train["# label"] == 1], ["f0", "f2", "f3"]
    mean, sd = signal[columns].mean(), signal[columns].std(ddof=1)
    data = datasets.load("hepmass", root)
    seen = torch.cat((data.train, data.val)).numpy()
    assert np.allclose(seen, (signal[columns] - mean) / sd, rtol=0, atol=1e-12)
    tested = (test[test["# label"] == 1][columns] - mean) / sd
    assert np.allclose(data.test.numpy(), tested, rtol=0, atol=1e-12)
    assert len(data.val) == len(signal) // 10


def test_miniboone_and_bsds300_number_by_number(root):
    x = np.load(root / "miniboone/data.npy")
    z = (x - x[:360].mean(0)) / x[:360].std(0)
    data = datasets.load("miniboone", root)
    assert np.allclose(torch.cat((data.train, data.val, data.test)).numpy(), z, rtol=0, atol=1e-12)
    with h5py.File(root / "BSDS300/BSDS300.hdf5") as file:
        assert (datasets.load("bsds300", root).val.numpy() == file["validation"][:]).all()


def test_the_originals_of_uci_give_the_archives_rows(root):
    expected = datasets.load("power", root)
    (root / "power/data.npy").unlink()
    names = ["Date", "Time", "Global_active_power", "Global_reactive_power", "Voltage"]
    names += ["Global_intensity", *(f"Sub_metering_{k}" for k in (1, 2, 3))]
    lines = [";".join(names), "16/12/2006;17:24:00;?;?;?;?;?;?;"]
    for row in MINUTES:
        clock = f"{int(row[7]) // 60:02}:{int(row[7]) % 60:02}:00"
        lines.append(";".join(["16/12/2006", clock, *(f"{v:.3f}" for v in row[:7])]))
    (root / "power/household_power_consumption.txt").write_text("\n".join(lines))
    assert torch.equal(datasets.load("power", root).train, expected.train)

    (root / "miniboone/data.npy").unlink()
    x = RNG.normal(size=(60, 5))
    x[3], x[:10, 2] = -999.0, -7.0  # an outlier; a repeated least value
    text = "\n".join(["50 10", *(" ".join(f"{v:.6e}" for v in row) for row in x)])
    (root / "miniboone/MiniBooNE_PID.txt").write_text(text)
    rows = maf.miniboone_rows(root / "miniboone/MiniBooNE_PID.txt")
    assert np.allclose(rows, np.delete(x, 3, axis=0)[:49][:, [0, 1, 3, 4]], atol=1e-5)
    (root / "miniboone/MiniBooNE_PID.txt").write_text("\n".join(text.split("\n")[:30]))
    with pytest.raises(ValueError, match="50 rows of signal promised, 29 found"):
        datasets.load("miniboone", root)


def test_gas_is_read_as_ucis_text_and_never_unpickled(root):
    """A line of names with spaces in them, then 19 columns of numbers."""
    sensors = RNG.normal(size=(ROWS, 16))
    sensors[:, 5] = 2 * sensors[:, 0] + 1  # the first of two alike is dropped
    table = np.column_stack((np.arange(ROWS) / 100, np.zeros((ROWS, 2)), sensors))
    names = "Time (seconds), CO conc (ppm), Ethylene conc (ppm), sensor readings (16 channels)"
    (root / "gas/ethylene_CO.parquet").rename(root / "gas/ethylene_CO.pickle")
    with pytest.raises(FileNotFoundError, match=r"ethylene_CO.pickle is a program, .* convert"):
        datasets.load("gas", root)
    np.savetxt(root / "gas/ethylene_CO.txt", table, header=names, comments="", fmt="%.17g")
    data, x = datasets.load("gas", root), sensors[:, 1:]
    loaded = torch.cat((data.train, data.val, data.test)).numpy()
    assert np.allclose(loaded, (x - x.mean(0)) / x.std(0, ddof=1), rtol=0, atol=1e-12)
    np.savetxt(root / "gas/ethylene_CO.txt", table[:, :9], header=names, comments="")
    with pytest.raises(ValueError, match=r"9 columns; UCI's text has 19"):
        datasets.load("gas", root)


def test_packed_hepmass_and_a_folder_called_data(root):
    expected = datasets.load("hepmass", root)
    for part in ("train", "test"):
        path = root / f"hepmass/1000_{part}.csv"
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (root / "data").mkdir()
    (root / "hepmass").rename(root / "data/hepmass")
    assert torch.equal(datasets.load("hepmass", root).test, expected.test)


def _cut(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


@pytest.mark.parametrize(
    ("name", "file", "damage", "message"),
    [
        ("miniboone", "miniboone/data.npy", lambda p: _cut(p, 0.5), r"Expected \(400, 43\)"),
        ("miniboone", "miniboone/data.npy", lambda p: np.save(p, np.zeros(9)), r"shape \(9,\)"),
        ("miniboone", "miniboone/data.npy", lambda p: np.save(p, np.zeros((9, 2))), "too few"),
        ("power", "power/data.npy", lambda p: np.save(p, np.zeros((50, 7))), "power has 8"),
        ("bsds300", "BSDS300/BSDS300.hdf5", lambda p: _cut(p, 0.5), "BSDS300.hdf5"),
        ("bsds300", "BSDS300/BSDS300.hdf5", lambda p: h5py.File(p, "w").close(), "train"),
        ("hepmass", "hepmass/1000_test.csv", lambda p: p.write_text("# label,f0,m\n"), "the same"),
    ],
)
def test_a_broken_file_is_refused_and_named(name, file, damage, message, root):
    damage(root / file)
    with pytest.raises(ValueError, match=message) as error:
        datasets.load(name, root)
    assert name in str(error.value)


def test_an_absent_set_says_where_it_was_looked_for(monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"put power/data.npy, or .*flowgauge data fetch"):
        datasets.load("power")
    monkeypatch.setenv("FLOWGAUGE_DATA", "nosuch")
    with pytest.raises(ValueError, match="FLOWGAUGE_DATA is 'nosuch', which is not a folder"):
        datasets.load("power")
