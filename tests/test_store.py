"""Results folders and records: they outlive writing, packing and joining, and are read strictly."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typer.testing import CliRunner

import benchmarks
from benchmarks.cli.app import app
from benchmarks.core import store
from benchmarks.core.case import defaults_of
from benchmarks.core.record import parsed
from committed import ROOT
from records import BATCH, arrays_of, case_of, content, edit, put, record_of, values

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_])
ARRAYS = st.dictionaries(
    st.text("abcdefgh_", min_size=1, max_size=6),
    DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0))),
    max_size=3,
)
METRICS = st.dictionaries(st.text("xyz", min_size=1), st.lists(st.floats(), max_size=4))
SIZES = st.integers(1, 6)


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Whether arrays agree in names, types, shapes and bits."""
    hashes = [
        {name: store.content_hash(a) for name, a in arrays.items()} for arrays in (first, second)
    ]
    return hashes[0] == hashes[1]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(SIZES, st.tuples(METRICS, ARRAYS), min_size=1), st.booleans())
def test_records_and_arrays_outlive_writing_packing_and_joining(written, join):
    with TemporaryDirectory() as name:
        folder = Path(name)
        for batch, (metrics, arrays) in written.items():
            put(folder, batch, arrays, **metrics)
            if join:
                store.pack(folder)  # a part a record
        for packing in (None, lambda: store.pack(folder), lambda: store.pack(folder, join=True)):
            if packing:
                packing()
            np.testing.assert_equal(
                values(folder),
                {b: {n: tuple(v) for n, v in m.items()} for b, (m, _) in written.items()},
            )
            read = arrays_of(folder)
            assert all(same(read[batch], arrays) for batch, (_, arrays) in written.items())
        assert len(store.tables(folder)) == 1
        assert not store.loose(folder)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(SIZES, st.sampled_from(["write", "pack", "join"])), max_size=12))
def test_the_newest_record_counts_and_reading_changes_nothing(steps):
    """A loose record over a packed one, a later part over an earlier."""
    with TemporaryDirectory() as name:
        folder, expected = Path(name), {}
        for moment, (batch, step) in enumerate(steps):
            if step == "write":
                put(folder, batch, {"a": np.array([moment])}, x=moment)
                expected[batch] = moment
            else:
                store.pack(folder, join=step == "join")
            before = content(folder)
            assert values(folder) == {b: {"x": (float(m),)} for b, m in expected.items()}
            if expected:
                assert arrays_of(folder) == {b: {"a": np.array([m])} for b, m in expected.items()}
            assert not store.corrupt(folder)
            assert content(folder) == before


def test_equal_arrays_are_kept_once_over_all_parts(tmp_path):
    shared = np.arange(1000.0)
    for batch in (1, 2):
        put(tmp_path, batch, {"a": shared, "b": shared, "own": np.array([batch])})
        store.pack(tmp_path)
    names = []
    for path in sorted(tmp_path.glob("arrays-*.zip")):
        with zipfile.ZipFile(path) as archive:
            names += archive.namelist()
    assert len(names) == len(set(names)) == 3
    assert same(arrays_of(tmp_path)[2], {"a": shared, "b": shared, "own": np.array([2])})


def test_a_part_is_never_rewritten(tmp_path):
    before: dict[str, str] = {}
    for batch in range(1, 4):
        put(tmp_path, batch, {"a": np.array([batch])})
        store.pack(tmp_path)
        now = content(tmp_path)
        assert before.items() <= now.items()
        before = now
    assert store.pack(tmp_path) is None
    assert content(tmp_path) == before


@pytest.mark.parametrize("join", [False, True])
def test_arrays_that_are_dropped_leave_the_others_and_the_metrics(tmp_path, join):
    for batch in (1, 2):
        put(tmp_path, batch, {"a": np.array([batch]), "b": np.arange(batch)}, log_prob_flops=7.0)
        if join:
            store.pack(tmp_path)
    before = values(tmp_path)
    with pytest.raises(ValueError, match="'c'"):
        store.pack(tmp_path, join=join, without=["a", "c"])
    store.pack(tmp_path, join=join, without=["a"])
    assert values(tmp_path) == before
    read = arrays_of(tmp_path)
    assert all(same(read[batch], {"b": np.arange(batch)}) for batch in (1, 2))
    assert len(store.hashes(tmp_path)) == 2


def test_arrays_of_a_record_that_was_cut_off_do_not_pass_for_those_of_the_packed_one(tmp_path):
    """Arrays are written first: without their record they belong to none."""
    path = put(tmp_path, arrays={"a": np.array([1.0])})
    store.pack(tmp_path)
    put(tmp_path, arrays={"a": np.array([2.0])})
    path.unlink()
    assert arrays_of(tmp_path) == {BATCH: {"a": np.array([1.0])}}


def test_what_another_writer_left_half_written_is_no_record(tmp_path):
    path = put(tmp_path, 1)
    for host in ("here-1-2", "there-3-4"):
        path.with_name(f".{path.name}.{host}").write_bytes(b"{")
    (tmp_path / ".records-0001.parquet.draft").write_bytes(b"half")
    assert set(values(tmp_path)) == {1}
    store.pack(tmp_path)
    assert set(values(tmp_path)) == {1}


def test_arrays_of_a_later_measurement_are_not_those_of_a_row_that_was_read_before(tmp_path):
    for arrays in ({"a": np.array([1.0])}, {"a": np.array([2.0])}, {"b": np.array([1.0])}):
        put(tmp_path, arrays={"a": np.array([1.0])})
        (row,) = (row for _, row in benchmarks.load(tmp_path).iterrows())
        put(tmp_path, arrays=arrays)
        if "a" in arrays and arrays["a"] == 1:
            assert store.arrays(row) == arrays
        else:
            with pytest.raises(store.FolderError, match=store.RECORDS):
                store.arrays(row)


CODE = """
import sys, benchmarks
frame = benchmarks.load(sys.argv[1])
assert len(frame)
read = {name for name in sys.modules if name.split(".")[0] in ("torch", "flows")}
assert not read | {name for name in sys.modules if name.startswith("benchmarks.studies")}, read
"""
REPORT = """
import sys
from benchmarks.cli.app import app
app(["report", sys.argv[1], "--out", sys.argv[2]], standalone_mode=False)
assert "torch" not in sys.modules
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a new record in a folder of two."""
    defaults = defaults_of(case_of(1))
    record = record_of(case_of(1).changed(options=defaults["options"]), {"parameters": 7.0})
    store.write(tmp_path, record.model_copy(update={"defaults": defaults}))
    put(tmp_path, 2)
    return tmp_path / store.RECORDS / f"{record.key}.json"


def test_results_are_read_without_torch_flows_or_studies() -> None:
    subprocess.run([sys.executable, "-c", CODE, str(ROOT / "truth")], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["truth", "conditional"])
def test_a_report_is_drawn_without_torch(name: str, tmp_path: Path) -> None:
    arguments = [str(ROOT / name), str(tmp_path / "report")]
    subprocess.run([sys.executable, "-c", REPORT, *arguments], check=True)


@pytest.mark.parametrize(
    "command",
    [("report",), ("status",), ("pack",), ("run",), ("compare",), ("merge",)],
    ids=" ".join,
)
def test_a_record_whose_numbers_were_altered_ends_every_command(
    path: Path, command: tuple[str, ...], tmp_path: Path
) -> None:
    folder = path.parent.parent
    plan = {"name": "one", "suite": {"name": "one", "studies": []}, "cases": []}
    (folder / "suite.json").write_text(json.dumps(plan))
    edit(path, metrics={"parameters": [8.0]})
    second = {"compare": [str(folder)], "merge": ["--out", str(tmp_path / "merged")]}
    result = CliRunner().invoke(app, [*command, str(folder), *second.get(command[0], [])])
    assert result.exit_code == 2, result.output
    assert path.name in result.stderr
    assert path.is_file()


def test_a_record_without_a_digest_is_valid(path: Path) -> None:
    edit(path, digest="", defaults={})
    assert set(benchmarks.load(path.parent.parent)["parameters"].dropna()) == {7.0}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"status": "done"', '"status": "done", "status": "done"'),
        ('"dim": 2', '"dim": "2"'),
        ('"updates": 0', '"updates": false'),
        ("7.0", '"7.0"'),
        ("7.0", "true"),
        ("7.0", "NaN"),
        ('"batch": 1', '"batch": 3'),
        ('"depth": 2', '"depth": 3'),
    ],
)
def test_json_is_strict_and_a_case_is_that_of_its_key(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    parsed(text, path.stem)
    with pytest.raises(ValueError, match="it is no"):
        parsed(text.replace(before, after, 1), path.stem)


def test_a_later_record_states_the_defaults_of_an_earlier_one(tmp_path: Path) -> None:
    stated = {"options": {"option": 3}, "settings": {"setting": 5, "nested": {"part": 1}}}
    case = case_of(2).changed(settings={"setting": 6, "nested": {}})
    store.write(tmp_path, record_of(case_of(1)))
    store.write(tmp_path, record_of(case).model_copy(update={"defaults": stated}))
    frame = benchmarks.load(tmp_path).sort_values("batch")
    assert frame["option.option"].tolist() == [3, 3]
    assert frame["setting.setting"].tolist() == [5, 6]
    assert frame["setting.nested"].iloc[1] == {"part": 1}
