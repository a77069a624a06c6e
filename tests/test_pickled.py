"""Pickled tables: those of every pandas are read, and nothing in them is called."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import datasets
from benchmarks.datasets.pickled import NAMES, read_table
from benchmarks.datasets.unpickling import StandIn, load
from maf_tables import ROWS, gas_table


def test_objects_in_an_npy_are_never_unpickled(tmp_path: Path) -> None:
    (tmp_path / "power").mkdir()
    np.save(tmp_path / "power/data.npy", np.array([[Hostile()]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="object and of shape"):
        datasets.load("power", tmp_path)


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
        result = read_table(tmp_path / "x")
        assert list(result) == list(x)
        assert (result.to_numpy() == x.to_numpy()).all()


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
        instance = old[name]()
        instance.told = state
        return instance

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


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_gives_stand_ins_and_plain_types_alone(protocol: int) -> None:
    """numpy's own type and array are never made by it: they trust what they are given."""
    plain = (StandIn, str, bytes, bytearray, int, float, type(None), tuple, list, dict)

    def walk(value: Any) -> None:
        assert type(value) in (*plain, bool)
        inner = {StandIn: lambda: [*value.args, value.state], dict: lambda: [*value.values()]}
        kind = next((k for k in (StandIn, dict) if isinstance(value, k)), None)
        for part in inner[kind]() if kind else value if isinstance(value, tuple | list) else ():
            walk(part)

    walk(load(pickle.dumps(gas_table(), protocol), NAMES))


@pytest.mark.parametrize("content", [{"a": 1}, pd.Series([1.0]), pd.DataFrame({"a": ["x", "y"]})])
def test_a_pickle_of_something_else_is_refused(content, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"holds no table of numbers|was not unpickled"):
        read_table(tmp_path / "x")
