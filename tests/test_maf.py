"""The MAF sets from made files in their layout: preprocessing number by number, and bad files."""

from __future__ import annotations

import gzip
import io
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import datasets
from benchmarks.datasets import maf
from benchmarks.datasets.pickled import StandIn, Unpickler, read_table
from benchmarks.datasets.published import Published, counts
from benchmarks.datasets.uci import miniboone_rows
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
    gas_table().to_pickle(tmp_path / "gas/ethylene_CO.pickle")
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
    assert torch.equal(data.train, again.train)  # the split is the published one
    assert "NOT the published set" in data.about
    assert f"{len(data.train):,} / {len(data.val):,} / {len(data.test):,} rows" in data.about
    assert counts(maf.PUBLISHED[name].rows) in data.about


@pytest.mark.parametrize(("name", "row"), maf.PUBLISHED.items())
def test_the_published_counts_follow_from_tenths(name: str, row: Published) -> None:
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
    table = read_table(root / "gas/ethylene_CO.pickle")
    x = table[["b", "c", "d"]].to_numpy()  # a: the first of two alike; d: against a, kept
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    data = datasets.load("gas", root)
    found = torch.cat((data.train, data.val, data.test)).numpy()
    assert np.allclose(found, z, rtol=0, atol=1e-12)  # in the order of the file
    assert len(data.train) == 324


def test_hepmass_number_by_number(root: Path) -> None:
    train, test = (pd.read_csv(root / f"hepmass/1000_{part}.csv") for part in ("train", "test"))
    signal, kept = train[train["# label"] == 1], ["f0", "f2", "f3"]
    mean, sd = signal[kept].mean(), signal[kept].std(ddof=1)
    data = datasets.load("hepmass", root)
    seen = torch.cat((data.train, data.val)).numpy()
    assert np.allclose(seen, (signal[kept] - mean) / sd, rtol=0, atol=1e-12)
    tested = (test[test["# label"] == 1][kept] - mean) / sd
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
    rows = miniboone_rows(root / "miniboone/MiniBooNE_PID.txt")
    assert np.allclose(rows, np.delete(x, 3, axis=0)[:49][:, [0, 1, 3, 4]], atol=1e-5)
    (root / "miniboone/MiniBooNE_PID.txt").write_text("\n".join(text.split("\n")[:30]))
    with pytest.raises(ValueError, match="50 rows of signal promised, 29 found"):
        datasets.load("miniboone", root)


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
        ("miniboone", "miniboone/data.npy", lambda p: _cut(p, 0.5), "promises 400 rows of 43"),
        ("miniboone", "miniboone/data.npy", lambda p: _cut(p, 0.0001), "not a .npy file"),
        ("miniboone", "miniboone/data.npy", lambda p: np.save(p, np.zeros(9)), r"shape \(9,\)"),
        ("miniboone", "miniboone/data.npy", lambda p: np.save(p, np.zeros((9, 2))), "too few"),
        ("power", "power/data.npy", lambda p: np.save(p, np.zeros((50, 7))), "power has 8"),
        ("bsds300", "BSDS300/BSDS300.hdf5", lambda p: _cut(p, 0.5), "BSDS300.hdf5"),
        ("bsds300", "BSDS300/BSDS300.hdf5", lambda p: h5py.File(p, "w").close(), "train"),
        ("gas", "gas/ethylene_CO.pickle", lambda p: _cut(p, 0.5), "was not unpickled"),
        ("hepmass", "hepmass/1000_test.csv", lambda p: p.write_text("# label,f0,m\n"), "the same"),
        ("hepmass", "hepmass/1000_test.csv", lambda p: p.write_bytes(b""), "1000_t"),
    ],
)
def test_a_broken_file_is_refused_and_named(name, file, damage, message, root) -> None:
    damage(root / file)
    with pytest.raises(ValueError, match=message) as error:
        datasets.load(name, root)
    assert name in str(error.value)


def test_objects_in_an_npy_are_never_unpickled(root: Path) -> None:
    np.save(root / "power/data.npy", np.array([[Hostile()]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="table of numbers"):
        datasets.load("power", root)


def test_an_absent_set_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"put power/data.npy, or .*flowgauge data fetch"):
        datasets.load("power")
    monkeypatch.setenv("FLOWGAUGE_DATA", "nosuch")
    with pytest.raises(ValueError, match="FLOWGAUGE_DATA is 'nosuch', which is no folder"):
        datasets.load("power")


def test_the_content_of_files_is_known(root, monkeypatch) -> None:
    monkeypatch.setenv("FLOWGAUGE_DATA", str(root))
    before = data_files("power")
    assert before
    assert data_files("magic") == {}
    np.save(root / "power/data.npy", MINUTES + 1)
    assert data_files("power").keys() == before.keys()
    assert data_files("power") != before


class Hostile:
    """What a pickle can do: call anything while it is read."""

    def __reduce__(self):
        return exec, ("raise SystemExit('the code in the pickle ran')",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_with_code_in_it_is_refused(protocol: int, tmp_path: Path) -> None:
    for content in (Hostile(), [gas_table(), Hostile()], pd.DataFrame({"a": [Hostile()]})):
        (tmp_path / "x").write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(ValueError, match=r"it names .*, which is no part of a table"):
            read_table(tmp_path / "x")
    for name in ("builtins.eval", "os.system", "pandas.read_pickle", "pandas.io.common.DataFrame."):
        module, _, attribute = name.rpartition(".")
        code = f"c{module}\n{attribute}\n(S'1'\ntR.".encode()
        (tmp_path / "x").write_bytes(code)
        with pytest.raises(ValueError, match="was not unpickled"):
            read_table(tmp_path / "x")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("strings", ["str", "object"])
def test_a_table_of_todays_pandas_comes_through(protocol, strings, tmp_path) -> None:
    table = gas_table().astype({"Time": "float32"})
    table["count"] = np.arange(ROWS)  # a block of its own
    table.columns = table.columns.astype(strings)
    for x in (table, table.sample(frac=0.5, random_state=0), table[["c"]]):
        (tmp_path / "x").write_bytes(pickle.dumps(x, protocol))
        found = read_table(tmp_path / "x")
        assert list(found) == list(x)
        assert (found.to_numpy() == x.to_numpy()).all()


def test_a_table_of_the_pandas_of_2017_comes_through(tmp_path: Path, monkeypatch) -> None:
    """As pandas 0.19 pickled: the classes have moved since, and the state is a tuple."""
    old = {}
    for module, name in [
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.internals", "BlockManager"),
        ("pandas.indexes.base", "Index"),
        ("pandas.indexes.base", "_new_Index"),
    ]:
        body = {"__module__": module, "__getstate__": lambda self: self.told}
        old[name] = type(name, (), body)
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    for name, cls in old.items():
        setattr(sys.modules[cls.__module__], name, cls)

    def pickled(name, state):
        made = old[name]()
        made.told = state
        return made

    class Columns:
        def __reduce__(self):
            return old["_new_Index"], (old["Index"], {"data": labels, "name": None})

    table = gas_table()
    labels = np.array(list(table), dtype=object)
    values = table.to_numpy().T.copy()
    axes = [Columns(), None]
    block = {"values": values, "mgr_locs": slice(0, len(labels), 1)}
    state = (axes, [values], [Columns()], {"0.14.1": {"axes": axes, "blocks": [block]}})
    inside = {"_metadata": [], "_typ": "dataframe", "_data": pickled("BlockManager", state)}
    (tmp_path / "x").write_bytes(pickle.dumps(pickled("DataFrame", inside), 2))
    assert b"pandas.indexes.base" in (tmp_path / "x").read_bytes()
    pd.testing.assert_frame_equal(read_table(tmp_path / "x"), table, check_column_type=False)


FORGED = {  # opcodes of a pickled table of 200 float64, and what takes their place
    "objects": (b"f8", b"O8"),
    "structure": (b"f8", b"V8"),
    "time": (b"f8", b"M8"),
    "text": (b"f8", b"S8"),
    "complex": (b"f8", b"c8"),
    "narrow": (b"f8", b"f4"),
    "few": (b"K\x01K\xc8", b"K\x01K\xc7"),
    "many": (b"K\x01K\xc8", b"K\x02K\xc8"),
    "huge": (b"K\x01K\xc8", b"K\x01J\xff\xff\xff\x7f"),
    "negative": (b"K\x01K\xc8", b"K\x01J\xff\xff\xff\xff"),
    "no number": (b"K\x01K\xc8", b"K\x01N"),
}


@pytest.mark.parametrize(("opcodes", "others"), FORGED.values(), ids=FORGED)
def test_an_array_of_forged_type_or_size_is_refused(opcodes, others, tmp_path) -> None:
    content = pickle.dumps(pd.DataFrame({"a": np.arange(200.0)}), 2)
    assert opcodes in content
    (tmp_path / "x").write_bytes(content)
    assert len(read_table(tmp_path / "x")) == 200
    (tmp_path / "x").write_bytes(content.replace(opcodes, others))
    with pytest.raises(ValueError, match=r"holds no table of numbers"):
        read_table(tmp_path / "x")


def test_nothing_of_a_pickle_but_plain_types_is_called(tmp_path: Path, monkeypatch) -> None:
    """Its names are those of stand-ins: numpy's own type and array are never made by it."""
    (tmp_path / "x").write_bytes(pickle.dumps(gas_table(), 2))
    loaded = Unpickler(io.BytesIO((tmp_path / "x").read_bytes()), encoding="latin1").load()
    plain = (StandIn, str, bytes, int, bool, float, slice, type(None), tuple, list, dict, type)

    def walk(value: Any) -> None:
        assert isinstance(value, plain)
        inner = {StandIn: lambda: [*value.args, value.state], dict: lambda: [*value.values()]}
        kind = next((k for k in (StandIn, dict) if isinstance(value, k)), None)
        for each in inner[kind]() if kind else value if isinstance(value, tuple | list) else ():
            walk(each)

    walk(loaded)


@pytest.mark.parametrize("content", [{"a": 1}, pd.Series([1.0]), pd.DataFrame({"a": ["x", "y"]})])
def test_a_pickle_of_something_else_is_refused(content, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"holds no table of numbers|was not unpickled"):
        read_table(tmp_path / "x")
