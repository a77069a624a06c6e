"""Results folders: records and arrays, loose and packed, whole and damaged."""

from __future__ import annotations

import hashlib
import json
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
from benchmarks.core import parts, store
from benchmarks.core.case import Case
from benchmarks.core.record import SCHEMA
from benchmarks.core.study import Common
from benchmarks.execution.run import run, state
from benchmarks.execution.suite import Suite
from records import record_of

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_])
ARRAYS = st.dictionaries(
    st.text("abcdefgh_", min_size=1, max_size=6),
    DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0))),
    max_size=3,
)
METRICS = st.dictionaries(st.text("xyz", min_size=1), st.lists(st.floats(), max_size=4))
BATCH = 4
SIZES = st.integers(1, 6)


def case_of(batch: int = BATCH) -> Case:
    return Common().case(study="cost", flow="realnvp", dim=2, batch=batch)


def put(folder: Path, batch: int = BATCH, arrays=None, **metrics) -> Path:
    """Write a record into a folder; its file."""
    record = record_of(case_of(batch), metrics)
    store.write(folder, record, arrays)
    return folder / store.RECORDS / f"{record.key}.json"


def values(folder: Path) -> dict[int, dict[str, tuple[float, ...]]]:
    """Metrics of a folder's records by the batch of their cases."""
    records = store.read(folder).values()
    return {r.case.batch: {name: m.values for name, m in r.metrics.items()} for r in records}


def arrays_of(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """Arrays of a folder's records by the batch of their cases."""
    return {row["batch"]: store.arrays(row) for _, row in benchmarks.load(folder).iterrows()}


def content(folder: Path) -> dict[str, str]:
    """Every file of a folder by its content."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def edit(path: Path, **fields) -> None:
    """Change fields of a record's JSON."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Whether arrays agree in names, types, shapes and bits."""
    hashes = [
        {name: parts.content_hash(a) for name, a in arrays.items()} for arrays in (first, second)
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
        assert len(parts.tables(folder)) == 1
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


def test_arrays_of_a_record_that_was_cut_off_do_not_pass_for_those_of_the_packed_one(tmp_path):
    """Arrays are written first: without their record they belong to none."""
    path = put(tmp_path, arrays={"a": np.array([1.0])})
    store.pack(tmp_path)
    put(tmp_path, arrays={"a": np.array([2.0])})
    path.unlink()
    assert arrays_of(tmp_path) == {BATCH: {"a": np.array([1.0])}}


@pytest.mark.parametrize("fields", [{}, {"status": "of a later release"}, {"case": 3}])
def test_a_loose_record_of_a_newer_schema_is_named_and_kept(tmp_path, fields):
    """By a run too, which neither sets it aside nor measures over it."""
    put(tmp_path, 1)
    victim = put(tmp_path, 2)
    edit(victim, schema=SCHEMA + 1, **fields)
    before = victim.read_bytes()
    with pytest.warns(UserWarning, match=victim.name):
        assert set(values(tmp_path)) == {1}
    assert not store.corrupt(tmp_path)
    assert store.newer(tmp_path).keys() == {victim.stem}
    store.set_aside(tmp_path)
    store.pack(tmp_path)
    assert victim.read_bytes() == before
    with pytest.warns(UserWarning, match=victim.name):
        assert set(values(tmp_path)) == {1}


def test_a_run_measures_nothing_over_a_record_of_a_newer_schema(tmp_path):
    entry = {"study": "cost", "dims": [2], "batch": [4], "seconds": 0, "flows": ["realnvp"]}
    suite = Suite(name="one", threads=1, studies=(entry,))
    (case,) = suite.cases()
    store.write(tmp_path, record_of(case))
    (path,) = store.loose(tmp_path)
    edit(path, schema=SCHEMA + 1)
    before = path.read_bytes()

    class Silent:
        def begin(self, cases, kept, budget):
            assert not cases

    with pytest.warns(UserWarning, match=path.name):
        run(suite, tmp_path, Silent())
    with pytest.warns(UserWarning, match=path.name):
        now = state(suite, tmp_path)
    assert now.missing == {case.key}
    assert path.read_bytes() == before
    assert str(SCHEMA + 1) in now.reason(case.key)


def test_a_packed_record_of_a_newer_schema_is_named_and_kept(tmp_path, monkeypatch):
    put(tmp_path, 1)
    monkeypatch.setattr("benchmarks.core.record.SCHEMA", SCHEMA + 1)
    record = record_of(case_of(2)).model_copy(update={"schema_": SCHEMA + 1})
    store.write(tmp_path, record)
    table = store.pack(tmp_path)
    assert table is not None
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=table.name):
        assert set(values(tmp_path)) == {1}
    put(tmp_path, 3)
    store.pack(tmp_path)
    put(tmp_path, 4)
    before = content(tmp_path)
    with pytest.raises(store.FolderError, match=table.name):
        store.pack(tmp_path, join=True)
    assert content(tmp_path) == before


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten(path: Path) -> None:
    path.write_bytes(bytes(reversed(path.read_bytes())))


DAMAGES = (truncated, emptied, overwritten)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_damaged_loose_record_is_set_aside_on_demand_alone(tmp_path, damage, suffix):
    put(tmp_path, 1)
    victim = put(tmp_path, 2, {"a": np.arange(100.0)}).with_suffix(suffix)
    damage(victim)
    before = content(tmp_path)
    assert [path.stem for path in store.corrupt(tmp_path)] == [victim.stem]
    store.pack(tmp_path)
    assert before[str(victim)] == content(tmp_path)[str(victim)]
    store.set_aside(tmp_path)
    assert not store.corrupt(tmp_path)
    assert (tmp_path / "corrupt" / victim.name).is_file()
    assert set(values(tmp_path)) == {1}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", ["records-*.parquet", "arrays-*.zip"])
def test_a_damaged_part_is_named(tmp_path, damage, pattern):
    put(tmp_path, 1, {"a": np.arange(100.0)})
    store.pack(tmp_path)
    (victim,) = tmp_path.glob(pattern)
    damage(victim)
    put(tmp_path, 2, {"a": np.arange(100.0)})
    before = content(tmp_path)
    with pytest.raises(store.FolderError, match=victim.name):
        arrays_of(tmp_path)
    with pytest.raises(store.FolderError, match=victim.name):
        store.pack(tmp_path, join=True)
    drafts = {path for path in content(tmp_path) if Path(path).name.startswith(".")}
    assert before == {path: c for path, c in content(tmp_path).items() if path not in drafts}


def test_what_another_writer_left_half_written_is_no_record(tmp_path):
    path = put(tmp_path, 1)
    for host in ("here-1-2", "there-3-4"):
        path.with_name(f".{path.name}.{host}").write_bytes(b"{")
    (tmp_path / ".records-0001.parquet.draft").write_bytes(b"half")
    assert set(values(tmp_path)) == {1}
    store.pack(tmp_path)
    assert set(values(tmp_path)) == {1}


COMMANDS = (
    ("pack",),
    ("pack", "--all"),
    ("report",),
    ("status", "--json", "-"),
    ("run",),
    ("run", "--renew-times"),
    ("claims",),
    ("baseline", "update"),
    ("baseline", "check", "--target"),
)


def missing(folder: Path) -> None:
    """No folder at all."""


def a_file(folder: Path) -> None:
    folder.write_text("no folder")


def no_records(folder: Path) -> None:
    folder.mkdir()


def plan_of_nothing(folder: Path) -> None:
    put(folder)
    store.pack(folder)
    (folder / "suite.json").write_text("[")


def damaged_part(folder: Path) -> None:
    entry = {"study": "cost", "dims": [2], "batch": [4], "seconds": 0, "flows": ["realnvp"]}
    for batch in (1, 2):
        put(folder, batch)
        store.pack(folder)
    put(folder, 3)
    plan = {"name": "one", "suite": {"name": "one", "studies": [entry]}}
    (folder / "suite.json").write_text(json.dumps(plan))
    truncated(next(folder.glob("*.parquet")))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("damage", [missing, a_file, no_records, plan_of_nothing, damaged_part])
def test_commands_refuse_what_is_no_sound_folder(tmp_path, monkeypatch, command, damage):
    monkeypatch.chdir(tmp_path)
    damage(tmp_path / "victim")
    before = content(tmp_path)
    result = CliRunner().invoke(app, [*command, "victim"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if damage is plan_of_nothing and command[0] in ("pack", "baseline"):
        return  # sound records, whose plan these do not read
    if damage is damaged_part and command == ("pack",):
        return  # it adds a part and reads no other
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "victim" in result.stderr
    assert before == {p: c for p, c in content(tmp_path).items() if Path(p).name != ".lock"}


@pytest.mark.parametrize("command", [("pack",), ("run",)], ids=" ".join)
def test_a_held_folder_is_left_alone(tmp_path, command):
    damaged_part(tmp_path)
    with store.held(tmp_path):
        result = CliRunner().invoke(app, [*command, str(tmp_path)])
    assert result.exit_code == 2
    assert str(tmp_path) in result.stderr
