"""The MAF sets from small files in their layout: preprocessing number by number, bad files."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import datasets
from benchmarks.datasets import maf
from benchmarks.execution.versions import data_files

RNG = np.random.default_rng(0)
ROWS = 400
MINUTES = np.column_stack(
    (
        RNG.uniform(0.1, 6, ROWS).round(3),
        RNG.uniform(0, 0.5, ROWS).round(3),
        RNG.uniform(230, 245, ROWS).round(2),
        RNG.uniform(0, 30, ROWS).round(1),
        RNG.integers(0, 20, (ROWS, 3)),
        np.arange(ROWS) % 1440,
    )
)


def gas_table() -> pd.DataFrame:
    """Sensors a, b, c: b is a but for noise, c is against a; so a goes and b and c stay."""
    a, c = RNG.normal(size=(2, ROWS))
    values = {"a": a, "b": 3 * a + 0.01 * RNG.normal(size=ROWS) + 5, "c": c, "d": -a}
    return pd.DataFrame({"Time": np.arange(ROWS) / 100, "Meth": 0.0, "Eth": 1.0, **values})


def hepmass_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """f1 repeats its least value, f2 another one; the test file has a column more."""
    tables = []
    for _ in range(2):
        table = pd.DataFrame(RNG.normal(size=(ROWS, 4)), columns=["f0", "f1", "f2", "f3"])
        table.loc[RNG.permutation(ROWS)[:100], "f1"] = -9.0
        table.loc[RNG.permutation(ROWS)[:100], "f2"] = 0.5
        table.insert(0, "# label", RNG.integers(0, 2, ROWS).astype(float))
        tables.append(table)
    tables[1]["mass"] = 1000.0
    return tables[0], tables[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a small file of each set."""
    for folder in ("power", "gas", "hepmass", "miniboone", "BSDS300"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "power/data.npy", MINUTES)
    gas_table().to_parquet(tmp_path / "gas/ethylene_CO.parquet")
    train, test = hepmass_tables()
    train.to_csv(tmp_path / "hepmass/1000_train.csv", index=False)
    test.to_csv(tmp_path / "hepmass/1000_test.csv", index=False)
    np.save(tmp_path / "miniboone/data.npy", RNG.normal(3, 2, (ROWS, 43)))
    with h5py.File(tmp_path / "BSDS300/BSDS300.hdf5", "w") as file:
        for key, rows in {"train": 60, "validation": 20, "test": 40}.items():
            file[key] = RNG.normal(size=(rows, 63)).astype("float32")
    return tmp_path


@pytest.mark.parametrize("name", maf.PUBLISHED)
def test_small_files_load_and_are_said_not_to_be_the_published_set(name: str, root: Path) -> None:
    data, again = datasets.load(name, root), datasets.load(name, root, seed=1)
    assert data.split == "published"
    assert torch.equal(data.train, again.train)  # the split is the published one
    assert "NOT the published set" in data.about
    assert f"{len(data.train):,} / {len(data.val):,} / {len(data.test):,} rows" in data.about
    assert datasets.counts(maf.PUBLISHED[name].rows) in data.about


@pytest.mark.parametrize(("name", "row"), maf.PUBLISHED.items())
def test_the_published_counts_follow_from_tenths(name: str, row: maf.Published) -> None:
    """And nothing is said of a difference where there is none."""
    assert row.differs(row.dim, row.rows) == ""
    if name in ("power", "gas", "miniboone"):
        parts = maf.tails(np.empty((sum(row.rows), 0)))
        assert tuple(map(len, parts)) == row.rows


def test_power_number_by_number(root: Path) -> None:
    random = np.random.RandomState(42)
    order = np.arange(ROWS)
    random.shuffle(order)
    noise = {2: 0.01 * random.rand(ROWS), 0: 0.001 * random.rand(ROWS)}  # voltage is drawn first
    meters = random.rand(ROWS, 3)
    noise |= {4 + k: meters[:, k] for k in range(3)} | {7: np.zeros(ROWS)}
    x = np.column_stack([MINUTES[order, c] + noise[c] for c in (0, 2, 4, 5, 6, 7)])
    z = (x - x[:360].mean(0)) / x[:360].std(0)
    data = datasets.load("power", root)
    for part, rows in {
        "train": slice(324),
        "val": slice(324, 360),
        "test": slice(360, 400),
    }.items():
        assert np.allclose(getattr(data, part).numpy(), z[rows], rtol=0, atol=1e-12)


def test_gas_number_by_number(root: Path) -> None:
    table = pd.read_parquet(root / "gas/ethylene_CO.parquet")
    x = table[["b", "c", "d"]].to_numpy()  # a: the first of two alike; d: against a, kept
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    data = datasets.load("gas", root)
    loaded = torch.cat((data.train, data.val, data.test)).numpy()
    assert np.allclose(loaded, z, rtol=0, atol=1e-12)  # in the order of the file
    assert len(data.train) == 324


def test_hepmass_number_by_number(root: Path) -> None:
    train, test = (pd.read_csv(root / f"hepmass/1000_{part}.csv") for part in ("train", "test"))
    signal, columns = train[train["# label"] == 1], ["f0", "f2", "f3"]
    mean, sd = signal[columns].mean(), signal[columns].std(ddof=1)
    data = datasets.load("hepmass", root)
    seen = torch.cat((data.train, data.val)).numpy()
    assert np.allclose(seen, (signal[columns] - mean) / sd, rtol=0, atol=1e-12)
    tested = (test[test["# label"] == 1][columns] - mean) / sd
    assert np.allclose(data.test.numpy(), tested, rtol=0, atol=1e-12)
    assert len(data.val) == len(signal) // 10


def test_miniboone_and_bsds300_number_by_number(root: Path) -> None:
    x = np.load(root / "miniboone/data.npy")
    z = (x - x[:360].mean(0)) / x[:360].std(0)
    data = datasets.load("miniboone", root)
    assert np.allclose(torch.cat((data.train, data.val, data.test)).numpy(), z, rtol=0, atol=1e-12)
    data = datasets.load("bsds300", root)
    with h5py.File(root / "BSDS300/BSDS300.hdf5") as file:
        assert (data.val.numpy() == file["validation"][:]).all()


def test_the_originals_of_uci_give_the_archives_rows(root: Path) -> None:
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


def test_gas_is_read_as_ucis_text_and_never_unpickled(root: Path) -> None:
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


def test_packed_hepmass_and_a_folder_called_data(root: Path) -> None:
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
        (
            "miniboone",
            "miniboone/data.npy",
            lambda p: _cut(p, 0.5),
            r"Expected \(400, 43\)",
        ),
        ("miniboone", "miniboone/data.npy", lambda p: _cut(p, 0.0001), "cannot read"),
        ("miniboone", "miniboone/data.npy", lambda p: np.save(p, np.zeros(9)), r"shape \(9,\)"),
        ("miniboone", "miniboone/data.npy", lambda p: np.save(p, np.zeros((9, 2))), "too few"),
        ("power", "power/data.npy", lambda p: np.save(p, np.zeros((50, 7))), "power has 8"),
        ("bsds300", "BSDS300/BSDS300.hdf5", lambda p: _cut(p, 0.5), "BSDS300.hdf5"),
        ("bsds300", "BSDS300/BSDS300.hdf5", lambda p: h5py.File(p, "w").close(), "train"),
        ("gas", "gas/ethylene_CO.parquet", lambda p: _cut(p, 0.5), "ethylene_CO.parquet"),
        ("hepmass", "hepmass/1000_test.csv", lambda p: p.write_text("# label,f0,m\n"), "the same"),
        ("hepmass", "hepmass/1000_test.csv", lambda p: p.write_bytes(b""), "1000_t"),
    ],
)
def test_a_broken_file_is_refused_and_named(name, file, damage, message, root) -> None:
    damage(root / file)
    with pytest.raises(ValueError, match=message) as error:
        datasets.load(name, root)
    assert name in str(error.value)


def test_an_absent_set_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"put power/data.npy, or .*flowgauge data fetch"):
        datasets.load("power")
    monkeypatch.setenv("FLOWGAUGE_DATA", "nosuch")
    with pytest.raises(ValueError, match="FLOWGAUGE_DATA is 'nosuch', which is not a folder"):
        datasets.load("power")


def test_the_content_of_files_is_known(root, monkeypatch) -> None:
    monkeypatch.setenv("FLOWGAUGE_DATA", str(root))
    before = data_files("power")
    assert before
    assert data_files("magic") == {}
    np.save(root / "power/data.npy", MINUTES + 1)
    assert data_files("power").keys() == before.keys()
    assert data_files("power") != before
